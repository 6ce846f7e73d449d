package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// A node that ends while requests stream in over its socket ends quietly: each
// has its answer or ErrGone.
func TestEndsUnderRequests(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		opt := toyOptions()
		opt.Serve = true
		long := connect(t, dir, opt)
		var wg sync.WaitGroup
		for range 4 {
			c := connect(t, dir, toyOptions())
			for range 4 {
				wg.Go(func() {
					for {
						if _, err := c.Do(context.Background(), Request{Wish: ListGroups{}}); err != nil {
							if !errors.Is(err, ErrGone) {
								t.Errorf("when the node ended: %v", err)
							}
							return
						}
					}
				})
			}
		}
		time.Sleep(5 * time.Millisecond)
		if err := long.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}
