package node

import (
	"errors"
	"testing"
)

// TestProbe: each address by itself, under the relay's own key, and who
// vouches for it.
func TestProbe(t *testing.T) {
	r := startRelay(t, RelayConfig{Key: relayKey(1), Open: channels(1)})
	other := startRelay(t, RelayConfig{Key: relayKey(2), Open: channels(2)})
	false3 := startRelay(t, RelayConfig{Key: relayKey(3), Open: channels(2)}) // another relay's operator signature
	probe := func(n byte, addrs ...string) []Probe { return ProbeRelay(t.Context(), relayKey(n).Public(), addrs) }
	for _, p := range probe(1, r.Addrs()...) {
		if p.Err != nil || p.Operator != operator(1).Public() || p.Name != "Operator 1" || p.Took <= 0 {
			t.Errorf("%+v", p)
		}
	}
	list := probe(1, "/ip4/127.0.0.1/tcp/1", r.Addrs()[0], other.Addrs()[1], "nowhere")
	for i, want := range []error{ErrNoAnswer, nil, ErrOtherKey, ErrAddress} {
		if !errors.Is(list[i].Err, want) {
			t.Errorf("%s: %v, want %v", list[i].Addr, list[i].Err, want)
		}
	}
	if p := probe(3, false3.Addrs()[0])[0]; !errors.Is(p.Err, ErrNoRelay) {
		t.Errorf("an operator that does not vouch: %+v", p)
	}
	if len(probe(1)) != 0 {
		t.Error("no address has an answer")
	}
}
