package store

import (
	"bytes"
	"fmt"
)

// End is the first key after every key of the unit, for Scan and range
// deletes; nil for the unit of sixteen 0xff, after which nothing comes.
func (u Unit) End() []byte {
	for i := len(u) - 1; i >= 0; i-- {
		if u[i]++; u[i] != 0 {
			return u[:]
		}
	}
	return nil
}

// Check answers ErrBatch for an op that leaves the unit, has both Value and To,
// or deletes a range that ends before it begins. Engines call it before they
// write anything of the batch.
func (b *Batch) Check() error {
	for i, op := range b.Ops {
		switch {
		case !bytes.HasPrefix(op.Key, b.Unit[:]):
			return fmt.Errorf("%w: key %x of op %d does not begin with unit %x", ErrBatch, op.Key, i, b.Unit)
		case op.To == nil:
		case op.Value != nil:
			return fmt.Errorf("%w: op %d on unit %x has both Value and To", ErrBatch, i, b.Unit)
		case bytes.Compare(op.To, op.Key) < 0:
			return fmt.Errorf("%w: range of op %d on unit %x ends before it begins", ErrBatch, i, b.Unit)
		case !bytes.HasPrefix(op.To, b.Unit[:]) && !bytes.Equal(op.To, b.Unit.End()):
			return fmt.Errorf("%w: range of op %d reaches outside unit %x", ErrBatch, i, b.Unit)
		}
	}
	return nil
}
