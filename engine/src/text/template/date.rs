//! The date a template sees. It is given, never read from a clock: the rendered text is part of
//! what chunk KV is conditioned on, so it must be the same today and tomorrow.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Formats `date` (`YYYY-MM-DD`, at midnight) as Python's `strftime` does in the C locale. Any
/// other text is returned as it is; a directive that is not known is copied.
pub(super) fn strftime(date: &str, format: &str) -> String {
    let Some(day) = Day::parse(date) else {
        return date.to_owned();
    };
    let mut result = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('-') => {
                let directive = chars.next().unwrap_or('-');
                let padded = day.directive(directive);
                let stripped = padded.trim_start_matches(['0', ' ']);
                result.push_str(if stripped.is_empty() { "0" } else { stripped });
            }
            Some(directive) => result.push_str(&day.directive(directive)),
            None => result.push('%'),
        }
    }
    result
}

struct Day {
    year: i64,
    month: usize,
    day: i64,
}

impl Day {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        let day = Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
            day: day.parse().ok()?,
        };
        ((1..=12).contains(&day.month) && (1..=31).contains(&day.day) && day.year >= 0)
            .then_some(day)
    }

    fn directive(&self, directive: char) -> String {
        let month = MONTHS[self.month - 1];
        let weekday = WEEKDAYS[self.weekday()];
        match directive {
            'Y' => format!("{:04}", self.year),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'B' => month.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'F' => format!("{:04}-{:02}-{:02}", self.year, self.month, self.day),
            'H' | 'M' | 'S' => "00".to_owned(),
            'I' => "12".to_owned(),
            'p' => "AM".to_owned(),
            '%' => "%".to_owned(),
            other => format!("%{other}"),
        }
    }

    /// Days since Monday, after Zeller: the year is counted from March.
    fn weekday(&self) -> usize {
        let month = self.month as i64;
        let (year, month) = if month < 3 {
            (self.year - 1, month + 12)
        } else {
            (self.year, month)
        };
        let zeller = self.day + 13 * (month + 1) / 5 + year + year.div_euclid(4)
            - year.div_euclid(100)
            + year.div_euclid(400);
        // Zeller counts from Saturday.
        (zeller + 5).rem_euclid(7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn directives_match_python() {
        // python -c "import datetime; print(datetime.date(2026, 2, 5).strftime('...'))"
        let format = "%d %b %Y|%B %-d, %y|%A %a|%F|%m/%e|100%%";
        let expected = "05 Feb 2026|February 5, 26|Thursday Thu|2026-02-05|02/ 5|100%";
        assert_eq!(strftime("2026-02-05", format), expected);
        assert_eq!(strftime("2024-02-29", "%A"), "Thursday");
        assert_eq!(strftime("2000-01-01", "%A"), "Saturday");
        assert_eq!(strftime("2026-11-22", "%A"), "Sunday");
    }

    #[test]
    fn other_text_is_passed_on() {
        for text in ["26 Jul 2024", "2024-13-01", "2024-1-1", ""] {
            assert_eq!(strftime(text, "%d %b %Y"), text);
        }
    }
}
