//! Stage1: from the kernel's command line to a controller that answers.
