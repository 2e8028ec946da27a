//! The golden node: what it is made of, and its files as a stream.

<<<<<<< HEAD
pub mod pack;
=======
pub mod blkid;
pub mod describe;
pub mod plan;
pub mod scan;
pub mod view;
>>>>>>> room/disk
