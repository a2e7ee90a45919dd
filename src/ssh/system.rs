//! What the system's sshd runs.
