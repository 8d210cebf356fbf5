//! The pure core: from what is wanted and what there is to what has to be done.

pub mod desired;
pub mod observed;
pub mod validate;
