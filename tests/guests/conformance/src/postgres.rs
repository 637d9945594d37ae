//! Tables of PostgreSQL: values of each type that the server has written itself, and that the component has passed.

use anyhow::{bail, ensure};
use spin_sdk::pg4::{Connection, DbValue, Interval, ParameterValue, RangeBoundKind};

pub fn use_postgres(address: &str) -> anyhow::Result<()> {
    let connection = Connection::open(address)?;
    use_numbers(&connection)?;
    use_texts(&connection)?;
    use_times(&connection)?;
    use_general_types(&connection)?;
    use_ranges(&connection)?;
    use_arrays(&connection)?;
    use_nulls(&connection)?;
    let process = || -> anyhow::Result<String> {
        let found = connection.query("SELECT pg_backend_pid()", &[])?;
        Ok(format!("{:?}", found.rows))
    };
    ensure!(process()? == process()?);
    Ok(())
}

/// Creates a table with two rows: the values of the first are in SQL, those of the second are parameters. Returns both.
fn rows(
    connection: &Connection,
    columns: &str,
    literals: &str,
    parameters: &[ParameterValue],
) -> anyhow::Result<[Vec<DbValue>; 2]> {
    connection.execute("DROP TABLE IF EXISTS pg_temp.conformance", &[])?;
    let create = format!("CREATE TEMPORARY TABLE conformance ({columns}, id serial)");
    connection.execute(&create, &[])?;
    let insert = |values: &str| format!("INSERT INTO conformance VALUES ({values})");
    ensure!(connection.execute(&insert(literals), &[])? == 1);
    let placeholders: Vec<String> =
        (1..=parameters.len()).map(|index| format!("${index}")).collect();
    ensure!(connection.execute(&insert(&placeholders.join(", ")), parameters)? == 1);
    let found = connection.query("SELECT * FROM conformance ORDER BY id", &[])?;
    let Ok([mut first, mut second]) = <[Vec<DbValue>; 2]>::try_from(found.rows) else {
        bail!("not two rows");
    };
    let ids = (first.pop(), second.pop());
    ensure!(matches!(ids, (Some(DbValue::Int32(1)), Some(DbValue::Int32(2)))), "{ids:?}");
    Ok([first, second])
}

/// Compares values by how they are printed: their type cannot be compared.
fn ensure_equal(found: &[DbValue], expected: &[DbValue]) -> anyhow::Result<()> {
    let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
    ensure!(found == expected, "{found} instead of {expected}");
    Ok(())
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn use_numbers(connection: &Connection) -> anyhow::Result<()> {
    let [first, second] = rows(
        connection,
        "a smallint, b int2, c int, d int4, e bigint, f int8, g real, h double precision, i numeric(18, 9)",
        "1, 2, 3, 4, 5, 6, 7.8, 9.1, 0.123456789",
        &[
            ParameterValue::Int16(13),
            ParameterValue::Int16(14),
            ParameterValue::Int32(15),
            ParameterValue::Int32(16),
            ParameterValue::Int64(17),
            ParameterValue::Int64(18),
            ParameterValue::Floating32(19.2),
            ParameterValue::Floating64(20.3),
            ParameterValue::Decimal(text("123456789.123456789")),
        ],
    )?;
    let values = |integers: [i16; 6], real, double, decimal: &str| {
        let [a, b, c, d, e, f] = integers;
        [
            DbValue::Int16(a),
            DbValue::Int16(b),
            DbValue::Int32(c.into()),
            DbValue::Int32(d.into()),
            DbValue::Int64(e.into()),
            DbValue::Int64(f.into()),
            DbValue::Floating32(real),
            DbValue::Floating64(double),
            DbValue::Decimal(text(decimal)),
        ]
    };
    ensure_equal(&first, &values([1, 2, 3, 4, 5, 6], 7.8, 9.1, "0.123456789"))?;
    let passed = values([13, 14, 15, 16, 17, 18], 19.2, 20.3, "123456789.123456789");
    ensure_equal(&second, &passed)
}

fn use_texts(connection: &Connection) -> anyhow::Result<()> {
    let [first, second] = rows(
        connection,
        "a varchar(40), b text, c char(10)",
        "'varchar', 'text', 'char'",
        &["varchar2", "text2", "char2"].map(|value| ParameterValue::Str(text(value))),
    )?;
    // The server pads a text of fixed length.
    ensure_equal(&first, &["varchar", "text", "char      "].map(|v| DbValue::Str(text(v))))?;
    ensure_equal(&second, &["varchar2", "text2", "char2     "].map(|v| DbValue::Str(text(v))))
}

fn use_times(connection: &Connection) -> anyhow::Result<()> {
    let (date, time) = ((1901, 1, 2), (14, 15, 16, 17_000_000));
    let date_time = (1999, 7, 12, 4, 3, 2, 1_000_000);
    let interval = Interval { micros: 123_456, days: 10, months: 200 };
    let [first, second] = rows(
        connection,
        "a date, b time, c timestamp, d interval",
        "'2525-12-25', '04:05:06.789', '1989-11-24 01:02:03', '1 year 2 months 3 days 4:05:06.7'",
        &[
            ParameterValue::Date(date),
            ParameterValue::Time(time),
            ParameterValue::Datetime(date_time),
            ParameterValue::Interval(interval),
        ],
    )?;
    let written = [
        DbValue::Date((2525, 12, 25)),
        DbValue::Time((4, 5, 6, 789_000_000)),
        DbValue::Datetime((1989, 11, 24, 1, 2, 3, 0)),
        DbValue::Interval(Interval { micros: 14_706_700_000, days: 3, months: 14 }),
    ];
    ensure_equal(&first, &written)?;
    let passed = [
        DbValue::Date(date),
        DbValue::Time(time),
        DbValue::Datetime(date_time),
        DbValue::Interval(interval),
    ];
    ensure_equal(&second, &passed)
}

fn use_general_types(connection: &Connection) -> anyhow::Result<()> {
    let [first, second] = rows(
        connection,
        "a boolean, b bytea, c uuid, d jsonb",
        "true, '\\x00ff', '12345678-1234-1234-1234-123456789abc', '{\"s\":\"hello\",\"n\":null}'",
        &[
            ParameterValue::Boolean(false),
            ParameterValue::Binary(vec![1, 2, 3]),
            ParameterValue::Uuid(text("fedcba98-fedc-fedc-fedc-fedcba987654")),
            ParameterValue::Jsonb(b"{\"s\": \"world\", \"n\": 234}".to_vec()),
        ],
    )?;
    let values = |boolean, bytes: &[u8], uuid: &str, json: &str| {
        [
            DbValue::Boolean(boolean),
            DbValue::Binary(bytes.to_vec()),
            DbValue::Uuid(text(uuid)),
            DbValue::Jsonb(json.as_bytes().to_vec()),
        ]
    };
    // The server writes JSON in its own form.
    let json = r#"{"n": null, "s": "hello"}"#;
    let uuid = "12345678-1234-1234-1234-123456789abc";
    ensure_equal(&first, &values(true, &[0, 255], uuid, json))?;
    let json = r#"{"n": 234, "s": "world"}"#;
    let uuid = "fedcba98-fedc-fedc-fedc-fedcba987654";
    ensure_equal(&second, &values(false, &[1, 2, 3], uuid, json))
}

fn use_ranges(connection: &Connection) -> anyhow::Result<()> {
    let (inclusive, exclusive) = (RangeBoundKind::Inclusive, RangeBoundKind::Exclusive);
    let lower = Some((text("1234.56"), exclusive));
    let upper = Some((text("456789012345.789123"), inclusive));
    let [first, second] = rows(
        connection,
        "a int4range, b int8range, c numrange",
        "'(1,40]', '[123456789012,234567890123)', '(,100)'",
        &[
            ParameterValue::RangeInt32((Some((30, exclusive)), Some((12_341_234, exclusive)))),
            ParameterValue::RangeInt64((Some((123_123_123_123, inclusive)), None)),
            ParameterValue::RangeDecimal((lower.clone(), upper.clone())),
        ],
    )?;
    // The server writes ranges of integers in one form.
    let written = [
        DbValue::RangeInt32((Some((2, inclusive)), Some((41, exclusive)))),
        DbValue::RangeInt64((
            Some((123_456_789_012, inclusive)),
            Some((234_567_890_123, exclusive)),
        )),
        DbValue::RangeDecimal((None, Some((text("100"), exclusive)))),
    ];
    ensure_equal(&first, &written)?;
    let passed = [
        DbValue::RangeInt32((Some((31, inclusive)), Some((12_341_234, exclusive)))),
        DbValue::RangeInt64((Some((123_123_123_123, inclusive)), None)),
        DbValue::RangeDecimal((lower, upper)),
    ];
    ensure_equal(&second, &passed)?;
    let containing = "SELECT id FROM conformance WHERE $1::int4 <@ a ORDER BY id";
    for (number, rows) in [(30, 1), (40, 2)] {
        let found = connection.query(containing, &[ParameterValue::Int32(number)])?;
        ensure!(found.rows.len() == rows, "{:?}", found.rows);
    }
    Ok(())
}

fn use_arrays(connection: &Connection) -> anyhow::Result<()> {
    let integers = vec![Some(1), Some(123), None, Some(384_753)];
    let long_integers: Vec<_> = (40_000_000_000_000..40_000_000_001_000).map(Some).collect();
    let decimals = vec![Some(text("100")), Some(text("200.123456789"))];
    let texts = vec![Some(text("alice")), None, Some(text("carol"))];
    let [first, second] = rows(
        connection,
        "a int4[], b int8[], c numeric[], d text[]",
        "'{1,2,3}', '{101,102}', '{1.234,2.345}', '{hello,mum}'",
        &[
            ParameterValue::ArrayInt32(integers.clone()),
            ParameterValue::ArrayInt64(long_integers.clone()),
            ParameterValue::ArrayDecimal(decimals.clone()),
            ParameterValue::ArrayStr(texts.clone()),
        ],
    )?;
    let written = [
        DbValue::ArrayInt32(vec![Some(1), Some(2), Some(3)]),
        DbValue::ArrayInt64(vec![Some(101), Some(102)]),
        DbValue::ArrayDecimal(vec![Some(text("1.234")), Some(text("2.345"))]),
        DbValue::ArrayStr(vec![Some(text("hello")), Some(text("mum"))]),
    ];
    ensure_equal(&first, &written)?;
    let passed = [
        DbValue::ArrayInt32(integers),
        DbValue::ArrayInt64(long_integers),
        DbValue::ArrayDecimal(decimals),
        DbValue::ArrayStr(texts),
    ];
    ensure_equal(&second, &passed)?;
    let containing = "SELECT id FROM conformance WHERE array_position(a, $1) IS NOT NULL";
    for (number, rows) in [(1, 2), (2, 1)] {
        let found = connection.query(containing, &[ParameterValue::Int32(number)])?;
        ensure!(found.rows.len() == rows, "{:?}", found.rows);
    }
    Ok(())
}

fn use_nulls(connection: &Connection) -> anyhow::Result<()> {
    let [first, second] = rows(connection, "a varchar(40)", "NULL", &[ParameterValue::DbNull])?;
    ensure_equal(&first, &[DbValue::DbNull])?;
    ensure_equal(&second, &[DbValue::DbNull])
}
