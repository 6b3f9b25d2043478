//! What operators do and read.
//!
//! * [`verbs`]: what changes something: choose, preview, apply, result. No arguments, no text: a page calls them as a command does.
//! * [`reports`]: what is read at a glance, and what there is to do. Data, no text.
//! * [`overview`]: what needs somebody now, and the numbers behind it; [`words`]: both languages, who reads, and numbers for people; [`phrases`]: what reports
//!   say word for word, in Chinese.
//! * [`search`]: a key or conditions, the rows they find, and these as files.
//! * [`doctor`]: everything that would otherwise be found out too late.
//! * [`commands`]: arguments of the command line, and the words for people; [`report`] lays them out.
//!
//! Start at [`commands::run`].

pub mod commands;
pub mod doctor;
pub mod overview;
pub mod phrases;
pub mod report;
pub mod reports;
pub mod search;
pub mod verbs;
pub mod words;

pub use commands::{OperateCommand, OperateError, Operator, execute, execute_as, run, run_alone};
