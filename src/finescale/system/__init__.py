"""What the operating system gives: whole files, memory, interrupts, threads, jobs on many files."""
