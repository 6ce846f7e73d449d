package relay_test

import (
	"fmt"
	"testing"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// Whoever knows a board but for one entry finds that one by a few places; who
// knows nothing finds all of it, in parts of a page; and of another root nothing
// is said but the statement.
func TestBoardWalk(t *testing.T) {
	cfg := config()
	cfg.Limits.PageBytes = 2000
	f, err := newFront(relay.Open(cfg), memory.New(), 1)
	if err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.ask(createFrame())
	const entries = 300
	var known crossverify.Tree
	for i := range entries {
		p := putFrame(fmt.Sprint("post", i), fmt.Sprint("n", i), 1, fmt.Sprintf("value %0100d", i), "bob")
		one[proto.Receipt](t, c, p)
		if i != 100 {
			known.Put(crossverify.Leaf{Name: p.Name, Version: 1, Value: p.ValueDigest()})
		}
	}
	head := one[proto.BoardProof](t, c, proto.BoardProve{}).Statement
	if got := one[proto.BoardNodes](t, c, proto.BoardWalk{Root: wire.Digest{1}, Places: make([]crossverify.Prefix, 1)}); len(got.Places) != 0 || got.Statement != head {
		t.Errorf("under another root: %+v", got)
	}
	walk := func(expected *crossverify.Tree) (found int, bytes int, later int) {
		w := crossverify.NewWalk(expected, head.Root)
		for !w.Done() {
			got := one[proto.BoardNodes](t, c, proto.BoardWalk{Root: head.Root, Places: w.Ask(proto.MaxWalk)})
			if got.Statement != head {
				t.Fatal("an answer under another statement")
			}
			f := proto.Encode(got)
			if bytes += len(f.Body); len(f.Body) > 2000+300+proto.MaxWalk*600 {
				t.Errorf("an answer of %d bytes", len(f.Body))
			}
			var answers []crossverify.Subtree
			for _, p := range got.Places {
				a := crossverify.Subtree{Nodes: p.Nodes}
				if e := p.Entry; e != nil {
					a.Entry = &crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)}
				} else if p.Nodes == nil {
					later++
				}
				answers = append(answers, a)
			}
			if err := w.Take(answers); err != nil {
				t.Fatal(err)
			}
		}
		gone, list := w.Result()
		if len(gone) != 0 {
			t.Errorf("%d entries are not there", len(gone))
		}
		return len(list), bytes, later
	}
	if found, bytes, _ := walk(&known); found != 1 || bytes > 3500 {
		t.Errorf("one that was not known: %d, %d bytes", found, bytes)
	}
	if found, _, later := walk(new(crossverify.Tree)); found != entries || later == 0 {
		t.Errorf("all of them: %d, %d had no room", found, later)
	}
}

// A walk costs one request, as a page does.
func TestWalkIsPriced(t *testing.T) {
	cfg := config()
	cfg.Limits.RequestsPerMinute = 3
	f, err := newFront(relay.Open(cfg), memory.New(), 1)
	if err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.ask(createFrame())
	for range 3 {
		one[proto.BoardNodes](t, c, proto.BoardWalk{Root: wire.Digest{1}, Places: make([]crossverify.Prefix, 1)})
	}
	refused(t, c, proto.BoardWalk{Places: make([]crossverify.Prefix, 1)}, proto.CodeRate)
}
