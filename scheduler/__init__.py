"""The house that starts: whatever puts work into the queue, on request, on time, or because a job was lost."""
