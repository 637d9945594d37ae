//! Dates and times: how the server sends them, and how it reads them.

use super::error::ClientError;

/// Year (0 is 1 BC), month and day.
pub(super) type Date = (i32, u8, u8);
/// Hour, minute, second and nanosecond.
pub(super) type Time = (u8, u8, u8, u32);
/// A date and a time, in UTC.
pub(super) type DateTime = (i32, u8, u8, u8, u8, u8, u32);

const MICROS_PER_DAY: i64 = 86_400_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// The days from 1970-01-01 to 2000-01-01, from which the server counts.
const DAYS_TO_2000: i64 = 10_957;

/// The date that is so many days after 2000-01-01.
pub(super) fn date(days: i32) -> Result<Date, ClientError> {
    // The server represents infinity as the extreme values.
    if days == i32::MAX || days == i32::MIN {
        return Err(not_representable("an infinite date"));
    }
    calendar_date(days.into())
}

/// The time that is so many microseconds after midnight.
pub(super) fn time(micros: i64) -> Result<Time, ClientError> {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let unit = |value: i64| u8::try_from(value).map_err(|_| not_representable("a malformed time"));
    // At most 999,999,000.
    let nanos = u32::try_from(micros * 1000).unwrap_or_default();
    Ok((unit(seconds / 3600)?, unit(seconds / 60 % 60)?, unit(seconds % 60)?, nanos))
}

/// The instant that is so many microseconds after the beginning of 2000.
pub(super) fn date_time(micros: i64) -> Result<DateTime, ClientError> {
    if micros == i64::MAX || micros == i64::MIN {
        return Err(not_representable("an infinite timestamp"));
    }
    let (year, month, day) = calendar_date(micros.div_euclid(MICROS_PER_DAY))?;
    let (hour, minute, second, nanos) = time(micros.rem_euclid(MICROS_PER_DAY))?;
    Ok((year, month, day, hour, minute, second, nanos))
}

pub(super) fn date_text((year, month, day): Date) -> Result<String, ClientError> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(bad_parameter(&format!("there is no date {year}-{month}-{day}")));
    }
    let (year, era) = written_year(year);
    Ok(format!("{year:04}-{month:02}-{day:02}{era}"))
}

pub(super) fn time_text((hour, minute, second, nanos): Time) -> Result<String, ClientError> {
    if hour > 24 || minute > 59 || second > 59 || nanos > 999_999_999 {
        let text = format!("there is no time {hour}:{minute}:{second} and {nanos} nanoseconds");
        return Err(bad_parameter(&text));
    }
    Ok(format!("{hour:02}:{minute:02}:{second:02}.{nanos:09}"))
}

/// With a time zone, which the server ignores if the column has none.
pub(super) fn date_time_text(
    (year, month, day, hour, minute, second, nanos): DateTime,
) -> Result<String, ClientError> {
    date_text((year, month, day))?;
    let time = time_text((hour, minute, second, nanos))?;
    let (year, era) = written_year(year);
    Ok(format!("{year:04}-{month:02}-{day:02} {time}+00{era}"))
}

/// The instant that is so many seconds after the beginning of 1970.
pub(super) fn timestamp_text(seconds: i64) -> Result<String, ClientError> {
    let days = seconds.div_euclid(SECONDS_PER_DAY) - DAYS_TO_2000;
    let date = calendar_date(days).and_then(|(year, month, day)| {
        let (hour, minute, second, nanos) = time(seconds.rem_euclid(SECONDS_PER_DAY) * 1_000_000)?;
        date_time_text((year, month, day, hour, minute, second, nanos))
    });
    date.map_err(|_| bad_parameter(&format!("the timestamp {seconds} is out of range")))
}

/// A year as the server reads it, and its era.
fn written_year(year: i32) -> (i64, &'static str) {
    let year = i64::from(year);
    if year > 0 { (year, "") } else { (1 - year, " BC") }
}

/// The date of the Gregorian calendar that is so many days after 2000-01-01.
fn calendar_date(days: i64) -> Result<Date, ClientError> {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    const DAYS_PER_100_YEARS: i64 = 36_524;
    const DAYS_PER_4_YEARS: i64 = 1461;
    // Years that begin in March have their leap day at the end. 2000 is the first of 400.
    let days = days - 60;
    let cycles = days.div_euclid(DAYS_PER_400_YEARS);
    let mut rest = days.rem_euclid(DAYS_PER_400_YEARS);
    let centuries = (rest / DAYS_PER_100_YEARS).min(3);
    rest -= centuries * DAYS_PER_100_YEARS;
    let leap_cycles = rest / DAYS_PER_4_YEARS;
    rest -= leap_cycles * DAYS_PER_4_YEARS;
    let years = (rest / 365).min(3);
    rest -= years * 365;
    // Five months from March, and from August, have 153 days.
    let month = (5 * rest + 2) / 153;
    let day = rest - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 2000 + 400 * cycles + 100 * centuries + 4 * leap_cycles + years + next_year;
    let too_far = || not_representable("a date that is out of range");
    Ok((
        i32::try_from(year).map_err(|_| too_far())?,
        u8::try_from(month).map_err(|_| too_far())?,
        u8::try_from(day).map_err(|_| too_far())?,
    ))
}

fn not_representable(what: &str) -> ClientError {
    ClientError::ValueConversionFailed(format!("the server sent {what}: convert it to text"))
}

fn bad_parameter(text: &str) -> ClientError {
    ClientError::BadParameter(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        MICROS_PER_DAY, calendar_date, date, date_text, date_time, date_time_text, time, time_text,
        timestamp_text,
    };

    #[test]
    fn days_are_dates_of_the_gregorian_calendar() {
        for (days, expected) in [
            (0, (2000, 1, 1)),
            (58, (2000, 2, 28)),
            (59, (2000, 2, 29)),
            (60, (2000, 3, 1)),
            (366, (2001, 1, 1)),
            (-1, (1999, 12, 31)),
            (-10_957, (1970, 1, 1)),
            (-36_466, (1900, 2, 28)),
            (-36_465, (1900, 3, 1)),
            (192_126, (2526, 1, 9)),
            (-730_119, (1, 1, 1)),
            (-730_120, (0, 12, 31)),
        ] {
            assert_eq!(date(days).expect("a date"), expected, "{days}");
        }
        assert!(date(i32::MAX).is_err() && date(i32::MIN).is_err());
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let is_leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = calendar_date(-300_000).expect("a date");
        for days in -299_999..300_000 {
            let last = match month {
                2 if is_leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                (_, day) => (year, month, day + 1),
            };
            assert_eq!(calendar_date(days).expect("a date"), (year, month, day), "{days}");
        }
    }

    #[test]
    fn microseconds_are_times() {
        assert_eq!(time(0).expect("a time"), (0, 0, 0, 0));
        assert_eq!(time(14_706_789_000).expect("a time"), (4, 5, 6, 789_000_000));
        assert_eq!(time(MICROS_PER_DAY).expect("a time"), (24, 0, 0, 0));
        assert!(time(-1).is_err() && time(i64::MAX).is_err());
        assert_eq!(date_time(-1).expect("a time"), (1999, 12, 31, 23, 59, 59, 999_999_000));
        assert!(date_time(i64::MAX).is_err() && date_time(i64::MIN).is_err());
    }

    #[test]
    fn dates_and_times_are_written_as_the_server_reads_them() {
        assert_eq!(date_text((2525, 12, 25)).expect("a date"), "2525-12-25");
        assert_eq!(date_text((-43, 3, 15)).expect("a date"), "0044-03-15 BC");
        assert_eq!(time_text((4, 5, 6, 7000)).expect("a time"), "04:05:06.000007000");
        let written = date_time_text((0, 1, 2, 3, 4, 5, 0)).expect("a time");
        assert_eq!(written, "0001-01-02 03:04:05.000000000+00 BC");
        assert_eq!(timestamp_text(-1).expect("a time"), "1969-12-31 23:59:59.000000000+00");
        assert_eq!(
            timestamp_text(951_782_400).expect("a time"),
            "2000-02-29 00:00:00.000000000+00"
        );
        assert!(date_text((2000, 13, 1)).is_err() && date_text((2000, 1, 0)).is_err());
        assert!(time_text((25, 0, 0, 0)).is_err() && time_text((0, 0, 0, 1_000_000_000)).is_err());
        assert!(timestamp_text(i64::MAX).is_err() && timestamp_text(i64::MIN).is_err());
    }
}
