package pebble

// Waiting is how many calls of Apply wait for another one's commit.
func (s *Store) Waiting() int {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return len(s.queue)
}

// CheckManifest and CheckLog are what probe asks of the two kinds of files.
var CheckManifest, CheckLog = checkManifest, checkLog
