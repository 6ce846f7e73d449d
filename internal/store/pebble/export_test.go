package pebble

// Waiting is how many calls of Apply wait for another one's commit.
func (s *Store) Waiting() int {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return len(s.queue)
}
