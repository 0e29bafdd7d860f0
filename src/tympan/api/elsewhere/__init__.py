"""Routes in the shapes of other servers, so that their clients need a new address only."""
