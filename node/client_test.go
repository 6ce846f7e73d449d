package node

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

func toyOptions() Options {
	return Options{MemberConfig: MemberConfig{Open: openToyMember}, Wait: time.Second}
}

func connect(t *testing.T, dir string, opt Options) Client {
	t.Helper()
	c, err := Connect(t.Context(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clients runs a test in process and over the socket: it must not notice.
func clients(t *testing.T, test func(t *testing.T, dir string, c Client)) {
	t.Run("in process", func(t *testing.T) {
		dir := t.TempDir()
		test(t, dir, connect(t, dir, toyOptions()))
	})
	t.Run("socket", func(t *testing.T) {
		dir := t.TempDir()
		opt := toyOptions()
		opt.Serve = true
		connect(t, dir, opt)
		c := connect(t, dir, toyOptions())
		if _, ok := c.(*remote); !ok {
			t.Fatalf("a %T, not the socket", c)
		}
		test(t, dir, c)
	})
}

func create(t *testing.T, c Client, group string, relays ...member.FoundingSpot) {
	t.Helper()
	v, err := c.Do(t.Context(), Request{Wish: member.CreateGroup{Group: group, Name: "Ann", Relays: relays}})
	if err != nil {
		t.Fatal(err)
	}
	if g, ok := v.(member.GroupInfo); !ok || g.Group != group || g.Name != "Ann" {
		t.Fatalf("created %#v", v)
	}
}

func say(c Client, group, text string) error {
	_, err := c.Do(context.Background(), Request{Group: group, Wish: member.SendText{Text: text}})
	return err
}

func groups(t *testing.T, c Client) []Membership {
	t.Helper()
	v, err := c.Do(t.Context(), Request{Wish: ListGroups{}})
	if err != nil {
		t.Fatal(err)
	}
	return v.([]Membership)
}

func TestClientGroups(t *testing.T) {
	clients(t, func(t *testing.T, dir string, c Client) {
		if err := say(c, "", "hello"); !errors.Is(err, ErrNoGroup) {
			t.Errorf("without a group: %v", err)
		}
		if len(groups(t, c)) != 0 {
			t.Error("groups in an empty folder")
		}
		create(t, c, "bees")
		if err := say(c, "", "hello"); err != nil {
			t.Errorf("to the only group: %v", err)
		}
		create(t, c, "wasps")
		create(t, c, "wasps")
		// A group that cannot be made leaves nothing behind.
		if _, err := c.Do(t.Context(), Request{Wish: member.CreateGroup{Group: "in vain"}}); !errors.Is(err, member.ErrUnreached) {
			t.Errorf("in vain: %v", err)
		}
		list := groups(t, c)
		if len(list) != 3 || list[0].Name != "bees" || list[1].Name != "wasps" || !list[0].Ready || list[0].Err != nil || list[0].Unit == list[1].Unit {
			t.Fatalf("groups %+v", list)
		}
		for name, want := range map[string]error{
			"bees": nil, list[0].Unit: nil, list[2].Unit: nil, list[0].ID[:6]: nil,
			"": member.ErrAmbiguous, "wasps": member.ErrAmbiguous, list[1].ID[:4]: member.ErrAmbiguous,
			"ants": member.ErrNoSuch, list[0].ID[:3]: member.ErrNoSuch,
		} {
			if err := say(c, name, "hello"); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", name, err, want)
			}
		}
		entries, err := os.ReadDir(filepath.Join(dir, groupsDir))
		if err != nil || len(entries) != 3 {
			t.Errorf("%d folders (%v)", len(entries), err)
		}
	})
}

// Every answer has the same type and value, every error its identity.
func TestClientAnswersAndErrors(t *testing.T) {
	clients(t, func(t *testing.T, _ string, c Client) {
		create(t, c, "bees", member.FoundingSpot{Key: relayKey(3).Public(), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}})
		v, err := c.Do(t.Context(), Request{Wish: member.GetStatus{}})
		if err != nil {
			t.Fatal(err)
		}
		s, ok := v.(member.Status)
		if !ok || s.Group != "bees" || s.Events != 1 || len(s.Relays) != 1 || s.Relays[0].Key != relayKey(3).Public() {
			t.Errorf("status %#v", v)
		}
		v, err = c.Do(t.Context(), Request{Wish: member.GetEvidence{ID: "e1"}})
		if want := []member.EvidenceInfo{{ID: "e1"}}; err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("evidence %#v, %v", v, err)
		}
		for name, cause := range causes {
			_, err := c.Do(t.Context(), Request{Wish: member.GetCode{Member: name}})
			if !errors.Is(err, cause) || !strings.HasPrefix(fmt.Sprint(err), "in vain: ") {
				// What only we can know is not taken from the other side.
				if r, ok := c.(*remote); ok && errors.Is(err, ErrGone) && (name == "canceled" || name == "closed") && !r.rpc.IsStopped() {
					continue
				}
				t.Errorf("%s: %v", name, err)
			}
			for other, cause := range causes {
				if other != name && errors.Is(err, cause) && other != "gone" {
					t.Errorf("%s is also %s: %v", name, other, err)
				}
			}
		}
		_, err = c.Do(t.Context(), Request{Wish: member.GetCode{Member: "refusal"}})
		r, ok := errors.AsType[*proto.Refusal](err)
		if !ok || r.Code != proto.CodeQuota || r.Limit != "MaxLogBytes" || r.Retry != time.Minute || !errors.Is(err, member.ErrRefused) {
			t.Errorf("refusal %v", err)
		}
		if _, err := c.Do(t.Context(), Request{}); err == nil {
			t.Error("no wish")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := c.Do(ctx, Request{Wish: member.SendText{Text: "hang"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := say(c, "", "late"); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
		for _, err := range c.Events(t.Context(), "bees", 0) {
			if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoGroup) {
				t.Errorf("events after close: %v", err)
			}
		}
	})
}

// causes misses no sentinel of the packages a command can meet.
func TestCausesComplete(t *testing.T) {
	known := map[string]bool{}
	for _, err := range causes {
		known[err.Error()] = true
	}
	if len(known) != len(causes) {
		t.Error("two names for one error")
	}
	for dir, most := range map[string]int{"../broadcast/member": 60, ".": 20, "../internal/store": 10} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(err)
		}
		found := 0
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				v, ok := n.(*ast.ValueSpec)
				if !ok || len(v.Names) != 1 || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Err") {
					return true
				}
				call, ok := v.Values[0].(*ast.CallExpr)
				if !ok || len(call.Args) != 1 {
					return true
				}
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					found++
					if text, err := strconv.Unquote(lit.Value); err != nil || !known[text] {
						t.Errorf("%s: %s crosses the socket without a name", f, v.Names[0].Name)
					}
				}
				return true
			})
		}
		if found < 3 || found > most {
			t.Errorf("%d sentinels in %s", found, dir)
		}
	}
}

// Each wish has one codec: of two in the table the compiler says nothing, and the
// later one would count.
func TestCodecsOnce(t *testing.T) {
	tree, err := parser.ParseFile(token.NewFileSet(), "client.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	entries := 0
	ast.Inspect(tree, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != "codecs" {
			return true
		}
		for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
			entries++
			pair := e.(*ast.KeyValueExpr)
			wish := pair.Key.(*ast.CallExpr).Fun.(*ast.SelectorExpr).X.(*ast.CompositeLit).Type
			codec := pair.Value.(*ast.CallExpr).Fun.(*ast.IndexListExpr).Indices[0]
			if a, b := types.ExprString(wish), types.ExprString(codec); a != b {
				t.Errorf("the codec of %s reads a %s", a, b)
			}
		}
		return false
	})
	if entries == 0 || entries != len(codecs) {
		t.Errorf("%d codecs are written down for %d wishes", entries, len(codecs))
	}
}

// Each numbered event once and in order, from any number on, while others write.
func TestClientEvents(t *testing.T) {
	clients(t, func(t *testing.T, _ string, c Client) {
		create(t, c, "bees")
		const texts = 60
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := range texts / 3 {
					if err := say(c, "bees", fmt.Sprintf("%d/%d", w, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, after := range []uint64{0, 1, 17} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			next := after + 1
			for e, err := range c.Events(ctx, "bees", after) {
				if err != nil {
					t.Fatalf("after %d: %v at %d", after, err, next)
				}
				if e.Number == 0 {
					continue
				}
				if e.Number != next {
					t.Fatalf("event %d, want %d", e.Number, next)
				}
				if next++; next > texts+1 {
					break
				}
			}
		}
		writers.Wait()
		// Live: hints come through, and the end of the context ends reading.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var talk sync.WaitGroup
		talk.Go(func() {
			for sleep(ctx, 5*time.Millisecond) {
				if err := say(c, "bees", "live"); err != nil {
					t.Error(err)
				}
			}
		})
		var hints, numbers uint64
		for e, err := range c.Events(ctx, "bees", texts+1) {
			switch {
			case errors.Is(err, context.Canceled):
			case err != nil:
				t.Fatal(err)
			case e.Number == 0 && e.Kind == member.EventProgress && e.Text == "live":
				hints++
			default:
				if numbers++; e.Number != texts+1+numbers || e.Text != "live" {
					t.Fatalf("live event %+v", e)
				}
			}
			if hints > 0 && numbers > 1 {
				cancel()
			}
		}
		talk.Wait()
		if hints == 0 || numbers < 2 {
			t.Errorf("%d hints, %d events", hints, numbers)
		}
		for _, err := range c.Events(t.Context(), "ants", 0) {
			if !errors.Is(err, member.ErrNoSuch) {
				t.Errorf("events of no group: %v", err)
			}
		}
	})
}

// One process at a time; the other speaks to it, or waits until it is gone.
func TestMemberLock(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenMember(MemberConfig{Dir: dir, Open: openToyMember})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMember(MemberConfig{Dir: dir, Open: openToyMember}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	opt := toyOptions()
	opt.Wait = 30 * time.Millisecond
	if _, err := Connect(t.Context(), dir, opt); !errors.Is(err, ErrLocked) {
		t.Errorf("nobody listens: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = first.Close() })
	opt = toyOptions()
	opt.Serve = true
	long := connect(t, dir, opt)
	if err := first.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, socketFile: 0o600 | fs.ModeSocket, lockFile: 0o600, groupsDir: 0o700 | fs.ModeDir} {
		if i, err := os.Stat(filepath.Join(dir, name)); err != nil || i.Mode() != want {
			t.Errorf("%q has mode %v (%v), want %v", name, i.Mode(), err, want)
		}
	}
	short := connect(t, dir, toyOptions())
	create(t, short, "bees")
	hanging := make(chan error)
	go func() { hanging <- say(short, "bees", "hang") }()
	reading := make(chan error)
	go func() {
		for _, err := range short.Events(context.Background(), "bees", 1) {
			reading <- err
		}
	}()
	time.Sleep(20 * time.Millisecond)
	if err := long.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for _, c := range []chan error{hanging, reading} {
		if err := <-c; !errors.Is(err, ErrGone) {
			t.Errorf("when the other process ended: %v", err)
		}
	}
	// A socket that a killed process left is in nobody's way.
	if err := os.WriteFile(filepath.Join(dir, socketFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := connect(t, dir, opt)
	if g := groups(t, again); len(g) != 1 || g[0].Name != "bees" {
		t.Errorf("groups after opening again: %+v", g)
	}
}

// A membership that does not open, or that fails, leaves the others alone.
func TestMemberFailures(t *testing.T) {
	dir := t.TempDir()
	stores := map[string]*memory.Store{}
	broken := errors.New("the table is damaged")
	var mu sync.Mutex
	breaks := ""
	cfg := MemberConfig{Dir: dir, Open: openToyMember, Log: zap.NewNop(), Store: func(d string) (store.Store, error) {
		mu.Lock()
		defer mu.Unlock()
		if breaks != "" && strings.Contains(d, breaks) {
			return nil, broken
		}
		if stores[d] == nil {
			stores[d] = memory.New()
		}
		return stores[d].Front(), nil
	}}
	m, err := OpenMember(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create(t, m, "bees")
	create(t, m, "wasps")
	list := m.Groups()
	_ = m.Close()
	breaks = list[0].Unit
	if m, err = OpenMember(cfg); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	after := m.Groups()
	if len(after) != 2 || after[0].Unit != breaks || !errors.Is(after[0].Err, broken) || after[1].Err != nil {
		t.Errorf("groups %+v", after)
	}
	if err := say(m, breaks, "hello"); !errors.Is(err, broken) {
		t.Errorf("to the broken group: %v", err)
	}
	if err := say(m, "wasps", "hello"); err != nil {
		t.Errorf("to the other: %v", err)
	}
	// A write that the store refuses closes the membership for good.
	var ue *UnitError
	if err := say(m, "wasps", "panic button"); !errors.As(err, &ue) || ue.Op != "write" {
		t.Errorf("failing write: %v", err)
	}
	if err := say(m, "wasps", "hello"); !errors.As(err, &ue) {
		t.Errorf("after it: %v", err)
	}
	for _, g := range m.Groups() {
		if g.Err == nil {
			t.Errorf("group %q is well", g.Name)
		}
	}
}

// A member keeps its links up while relays come and go, each under a key of
// its own.
func TestMemberLinks(t *testing.T) {
	// A dial that began while the relay was away may take its whole time.
	const patience = dialTimeout + 10*time.Second
	relays := map[keys.RelayPublic]*Relay{}
	var spots []member.FoundingSpot
	for n := range byte(2) {
		r := startRelay(t, RelayConfig{Key: relayKey(n + 1), Listen: quietPort(t), Retry: time.Millisecond})
		relays[relayKey(n+1).Public()] = r
		spots = append(spots, member.FoundingSpot{Key: relayKey(n + 1).Public(), Addrs: r.Addrs()})
	}
	m, err := OpenMember(MemberConfig{Dir: t.TempDir(), Open: openToyMember, Dialing: Dialing{First: 5 * time.Millisecond, Most: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	create(t, m, "bees", append(spots, member.FoundingSpot{Key: relayKey(9).Public(), Addrs: spots[0].Addrs})...)
	connected := func(want ...bool) {
		t.Helper()
		var got []bool
		var problem string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
			v, err := m.Do(t.Context(), Request{Wish: member.GetStatus{}})
			if err != nil {
				t.Fatal(err)
			}
			got = nil
			for _, r := range v.(member.Status).Relays {
				got = append(got, r.Connected)
			}
			// The third has the address of the first: while nobody answers
			// there, nobody has another key either.
			problem = v.(member.Status).Relays[2].Problem
			if reflect.DeepEqual(got, want) && (!want[0] || strings.Contains(problem, ErrOtherKey.Error())) {
				return
			}
		}
		t.Fatalf("connected %v, want %v; problem %q", got, want, problem)
	}
	pongs := func(want int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		got := 0
		for e, err := range m.Events(ctx, "bees", 0) {
			if err != nil {
				t.Fatalf("%d pongs, want %d: %v", got, want, err)
			}
			if e.Text == "pong" {
				if got++; got == want {
					return
				}
			}
		}
	}
	connected(true, true, false)
	pongs(4) // so that none is lost with the relay's end
	peers := map[string]bool{}
	relays[spots[0].Key].host.mu.Lock()
	for c := range relays[spots[0].Key].host.conns {
		peers[c.RemotePeer().String()] = true
	}
	relays[spots[0].Key].host.mu.Unlock()
	if len(peers) < 2 {
		t.Errorf("%d identities at one relay for two links", len(peers))
	}
	closeRelay(t, relays[spots[0].Key])
	connected(false, true, false)
	startRelay(t, RelayConfig{Key: relayKey(1), Listen: spots[0].Addrs})
	connected(true, true, false)
	pongs(6)
	// Links that are not wanted any more are closed.
	for _, ms := range m.list {
		ms.wants.set(nil)
	}
	connected(false, false, false)
}
