//! The binding decision on made-up machines: named shapes, invariants, and optimality by brute force.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod amd;
#[cfg(test)]
mod far;
#[cfg(test)]
mod faster;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod large;
#[cfg(test)]
mod made_up;
#[cfg(test)]
mod nearest;
#[cfg(test)]
mod optimal;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod surplus;
#[cfg(test)]
mod whole;
