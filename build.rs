//! Tells cargo that the migrations are compiled into the program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
