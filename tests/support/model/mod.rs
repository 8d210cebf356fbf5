//! A model of the Docker engine, of K3s and of the people around them, and the pure core at work on it.

pub mod check;
pub mod interfere;
pub mod k3s;
pub mod lab;
pub mod observe;
pub mod scenario;
pub mod script;
pub mod world;
