//! Sessions that come through the system's sshd.
