package memory

import (
	"bytes"
	"hash/maphash"
)

// tree is a treap: a binary tree ordered by key, and a heap by a hash of the
// key, so its depth is logarithmic whatever the order of writes. Snapshots
// share nodes: a node is changed in place only by the tree whose owner it
// carries, every other tree copies it first.
type tree struct {
	root  *node
	owner *owner
}

// owner is compared by address, so it must not have size zero.
type owner struct{ _ byte }

type node struct {
	key, value  []byte
	heat        uint64 // hash of key, not less than that of the children
	owner       *owner
	left, right *node
}

// seed shapes the tree, never a result.
var seed = maphash.MakeSeed()

func (t *tree) get(key []byte) *node {
	n := t.root
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c == 0:
			return n
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil
}

// ascend calls f for the nodes of [from, to) in key order until f answers
// false, and tells whether it never did.
func (n *node) ascend(from, to []byte, f func(*node) bool) bool {
	if n == nil {
		return true
	}
	above := bytes.Compare(n.key, from) >= 0
	below := bytes.Compare(n.key, to) < 0
	if above && !n.left.ascend(from, to, f) {
		return false
	}
	if above && below && !f(n) {
		return false
	}
	return !below || n.right.ascend(from, to, f)
}

// put takes key and value over.
func (t *tree) put(key, value []byte) {
	t.root = t.insert(t.root, &node{key: key, value: value, heat: maphash.Bytes(seed, key), owner: t.owner})
}

func (t *tree) insert(n, add *node) *node {
	if n == nil {
		return add
	}
	if add.heat > n.heat { // so its key is nowhere below n
		add.left, add.right = t.split(n, add.key)
		return add
	}
	n = t.own(n)
	switch c := bytes.Compare(add.key, n.key); {
	case c == 0:
		n.value = add.value
	case c < 0:
		n.left = t.insert(n.left, add)
	default:
		n.right = t.insert(n.right, add)
	}
	return n
}

func (t *tree) delete(key []byte) {
	if t.get(key) != nil { // else the path would be copied for nothing
		t.root = t.remove(t.root, key)
	}
}

func (t *tree) remove(n *node, key []byte) *node {
	c := bytes.Compare(key, n.key)
	if c == 0 {
		return t.merge(n.left, n.right)
	}
	n = t.own(n)
	if c < 0 {
		n.left = t.remove(n.left, key)
	} else {
		n.right = t.remove(n.right, key)
	}
	return n
}

func (t *tree) deleteRange(from, to []byte) {
	left, rest := t.split(t.root, from)
	_, right := t.split(rest, to)
	t.root = t.merge(left, right)
}

// split parts the nodes below key from the others.
func (t *tree) split(n *node, key []byte) (less, rest *node) {
	if n == nil {
		return nil, nil
	}
	n = t.own(n)
	if bytes.Compare(n.key, key) < 0 {
		n.right, rest = t.split(n.right, key)
		return n, rest
	}
	less, n.left = t.split(n.left, key)
	return less, n
}

// merge joins two trees, all keys of a being less than those of b.
func (t *tree) merge(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.heat >= b.heat:
		a = t.own(a)
		a.right = t.merge(a.right, b)
		return a
	default:
		b = t.own(b)
		b.left = t.merge(a, b.left)
		return b
	}
}

// own returns n if this tree may change it, else a copy.
func (t *tree) own(n *node) *node {
	if n.owner == t.owner {
		return n
	}
	c := *n
	c.owner = t.owner
	return &c
}
