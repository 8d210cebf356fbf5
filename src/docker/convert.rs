//! Conversion between the types of the operator and the models of bollard. Pure.

mod flushes;
mod requests;
mod responses;

pub use requests::{
    container_body, credentials, endpoint, missing_tag, network_body, sharing_entrypoint, update_body,
    volume_body,
};
pub use responses::{container, detail, info, last_lines, network, path_info, volume};

#[cfg(test)]
mod tests;
