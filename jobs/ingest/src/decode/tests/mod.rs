//! Behaviour of the decoder as a whole: golden cases, fates of broken records, properties.

mod fates;
mod golden;
mod properties;
mod shapes;
pub(crate) mod support;
