"""What a job's function asks for when it is called: its context, its dependencies, its arguments."""
