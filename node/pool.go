package node

import "sync"

// pool runs tasks in at most max goroutines, which it starts when there is
// work and ends when there is none. The queue has no limit of its own: a
// machine has a bounded number of reads and jobs under way.
type pool struct {
	max int

	mu      sync.Mutex // queue, running, closed
	queue   []func()
	running int
	closed  bool
	wg      sync.WaitGroup
}

func newPool(max int) *pool { return &pool{max: max} }

// run queues a task; a closed pool swallows it.
func (p *pool) run(task func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, task)
	if p.running < p.max {
		p.running++
		p.wg.Go(p.work)
	}
}

func (p *pool) work() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.queue = nil
			p.running--
			p.mu.Unlock()
			return
		}
		task := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
		task()
	}
}

// close drops what waits and returns when what runs has ended.
func (p *pool) close() {
	p.mu.Lock()
	p.closed, p.queue = true, nil
	p.mu.Unlock()
	p.wg.Wait()
}
