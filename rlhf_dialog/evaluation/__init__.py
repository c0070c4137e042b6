"""Numbers about a generator, from judges that were never its reward."""
