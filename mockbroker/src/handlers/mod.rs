//! One file per API, and the table from which ApiVersions answers.
