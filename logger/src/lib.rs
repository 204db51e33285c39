//! An asynchronous double-buffer logger that never loses a record.
