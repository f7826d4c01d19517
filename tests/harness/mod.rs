//! The harness of the promises: worlds in which both engines run, links between them, and the oracle.
