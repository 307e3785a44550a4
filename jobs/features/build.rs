//! Nothing to do: a build script is what makes cargo unite the features of proc macros.
fn main() {}
