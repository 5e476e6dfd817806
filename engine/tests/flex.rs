//! The engine suite on the CPU backend.

mod suite;

use burn_flex::{Flex, FlexDevice};

backend_suite!(Flex, FlexDevice);
