//! A node's conversation with the controller.
