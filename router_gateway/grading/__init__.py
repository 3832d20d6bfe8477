"""Grades answers without their readers: checks that a request asked for, and judges that are models themselves."""
