"""Services around the operating system: atomic files, free memory, interrupts, threads, jobs on many files."""
