//! What modes run, layer by layer.
