//! Pages for operators and the handlers of their forms.
//!
//! Each page has a file here with its handlers, and a template of the same name. Forms use the same
//! services as the API. Pages work without scripts. With scripts, regions marked `data-live` are
//! updated while the page is open; see [`live`].
//!
//! | file | what it is about |
//! |---|---|
//! | [`frame`] | what every page has: navigation, notices, times in the operator's zone |
//! | [`form`] | the fields of a form |
//! | [`columns`] | heads of tables that can be sorted |
//! | [`notice`] | the result of a form, shown on the next page |
//! | [`live`] | the stream that pages follow |
//! | [`pictures`] | drawings |
//! | [`highlight`] | scripts in colors |
//! | [`assets`] | the style sheet and the scripts |
//! | [`render`] | a template as a response |
//! | [`error_page`] | an error as a page |

pub mod account;
pub mod assets;
pub mod backups;
pub mod cache;
pub(crate) mod catalog_upload;
pub mod columns;
pub mod dashboard;
pub(crate) mod docs;
pub mod error_page;
pub mod events;
pub mod form;
pub mod frame;
pub mod highlight;
pub mod images;
pub mod live;
pub mod login;
pub mod machine;
pub mod machines;
pub mod netboot;
pub mod notice;
pub mod pictures;
pub mod plan;
pub mod plan_editor;
pub mod plans;
mod progress;
pub mod render;
pub mod settings;
pub mod undo;
