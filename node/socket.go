package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"
	"github.com/creachadair/jrpc2/handler"

	"parallax/broadcast/member"
)

// Limits of the socket.
const (
	maxSocketPath  = 103 // bytes: what the smallest sockaddr_un of our systems holds
	maxCalls       = 64  // at a time on one connection
	maxReaders     = 16  // of events, on one connection
	maxConnections = 64
)

// Errors of the socket.
var (
	// ErrSocketPath: the operating system takes no socket with so long a path.
	ErrSocketPath = errors.New("the path of the data folder is too long for a socket; use a shorter one")
	errReaders    = errors.New("too many readers of events on one connection")
	errNoReader   = errors.New("no such reader of events")
)

// Methods of the socket, JSON-RPC 2.0, one object a line.
const (
	methodDo     = "do"           // doParams: the wish's answer
	methodCancel = "cancel"       // notification with the id of a call: nobody waits for it any more
	methodOpen   = "events.open"  // openParams: a reader's number
	methodNext   = "events.next"  // a reader's number: at least one event
	methodClose  = "events.close" // notification with a reader's number
)

type doParams struct {
	Group string          `json:"group,omitempty"`
	Wish  string          `json:"wish"`
	Args  json.RawMessage `json:"args"`
	ID    uint64          `json:"id,omitempty"`
}

type openParams struct {
	Group string `json:"group,omitempty"`
	After uint64 `json:"after,omitempty"`
}

type cancelParams struct {
	ID string `json:"id"`
}

type readerParams struct {
	Reader uint64 `json:"reader"`
}

// socketPath is the socket of a folder, by the shorter of its names.
func socketPath(dir string) (string, error) {
	path := filepath.Join(dir, socketFile)
	if len(path) > maxSocketPath {
		if cwd, err := os.Getwd(); err == nil {
			if abs, err := filepath.Abs(path); err == nil {
				if rel, err := filepath.Rel(cwd, abs); err == nil && len(rel) < len(path) {
					path = rel
				}
			}
		}
	}
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("%s: %w", path, ErrSocketPath)
	}
	return path, nil
}

// socket is the listening side.
type socket struct {
	m    *Member
	ln   net.Listener
	path string
	wg   sync.WaitGroup

	mu    sync.Mutex // conns, nil when closed
	conns map[net.Conn]bool
}

// Serve listens on the folder's socket until Close.
func (m *Member) Serve() error {
	path, err := socketPath(m.cfg.Dir)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.socket != nil {
		return nil
	}
	// One that a killed process left: the lock is ours, so nobody listens.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, ln.Close())
	}
	s := &socket{m: m, ln: ln, path: path, conns: map[net.Conn]bool{}}
	m.socket = s
	s.wg.Go(s.accept)
	return nil
}

func (s *socket) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		session := &session{m: s.m, readers: map[uint64]*eventReader{}}
		server := jrpc2.NewServer(handler.Map{
			methodDo:     handler.New(session.do),
			methodCancel: handler.New(session.cancel),
			methodOpen:   handler.New(session.open),
			methodNext:   handler.New(session.next),
			methodClose:  handler.New(session.close),
		}, &jrpc2.ServerOptions{Concurrency: maxCalls})
		s.mu.Lock()
		if s.conns == nil || len(s.conns) >= maxConnections {
			s.mu.Unlock()
			_ = c.Close()
			continue
		}
		s.conns[c] = true
		server.Start(channel.Line(c, c))
		s.mu.Unlock()
		s.wg.Go(func() {
			_ = server.Wait() // how the other side left does not matter
			session.end()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *socket) close() error {
	err := s.ln.Close() // removes the file
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		// Not Server.Stop: it may close the server's queue while its reader holds
		// a request, and the reader then panics. On a closed connection the
		// reader stops the server itself.
		_ = c.Close()
	}
	s.wg.Wait()
	return err
}

// session is one connection to the socket.
type session struct {
	m *Member

	mu      sync.Mutex // the rest
	readers map[uint64]*eventReader
	last    uint64
}

func (s *session) do(ctx context.Context, p doParams) (any, error) {
	c, ok := codecs[p.Wish]
	if !ok {
		return nil, jrpc2.Errorf(jrpc2.InvalidParams, "there is no wish %q: the two programs are of different versions", p.Wish)
	}
	w, err := c.wish(p.Args)
	if err != nil {
		return nil, jrpc2.Errorf(jrpc2.InvalidParams, "wish %q: %v", p.Wish, err)
	}
	v, err := s.m.Do(ctx, Request{Group: p.Group, Wish: w, ID: p.ID})
	return v, toRPC(err)
}

func (s *session) cancel(ctx context.Context, p cancelParams) (struct{}, error) {
	jrpc2.ServerFromContext(ctx).CancelRequest(p.ID)
	return struct{}{}, nil
}

func (s *session) open(_ context.Context, p openParams) (readerParams, error) {
	ms, err := s.m.find(p.Group)
	if err != nil {
		return readerParams{}, toRPC(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.readers) >= maxReaders {
		return readerParams{}, toRPC(errReaders)
	}
	r, err := ms.readEvents(p.After)
	if err != nil {
		return readerParams{}, toRPC(err)
	}
	s.last++
	s.readers[s.last] = r
	return readerParams{s.last}, nil
}

func (s *session) next(ctx context.Context, p readerParams) ([]member.Event, error) {
	// Taken out while it is in use: a reader belongs to one call.
	r := s.take(p.Reader)
	if r == nil {
		return nil, toRPC(errNoReader)
	}
	list, err := r.next(ctx)
	if err != nil {
		r.close()
		return nil, toRPC(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == nil {
		r.close()
	} else {
		s.readers[p.Reader] = r
	}
	return list, nil
}

func (s *session) take(n uint64) *eventReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.readers[n]
	delete(s.readers, n)
	return r
}

func (s *session) close(_ context.Context, p readerParams) (struct{}, error) {
	if r := s.take(p.Reader); r != nil {
		r.close()
	}
	return struct{}{}, nil
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.readers {
		r.close()
	}
	s.readers = nil
}

// remote is the Client of a folder that another process has open.
type remote struct {
	rpc    *jrpc2.Client
	closed atomic.Bool
}

func dialSocket(ctx context.Context, dir string) (*remote, error) {
	path, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return &remote{rpc: jrpc2.NewClient(channel.Line(c, c), &jrpc2.ClientOptions{
		OnCancel: func(cli *jrpc2.Client, rsp *jrpc2.Response) {
			_ = cli.Notify(context.Background(), methodCancel, cancelParams{rsp.ID()})
		},
	})}, nil
}

// failure makes of a call's error what it was at the other end.
func (r *remote) failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.closed.Load():
		return ErrClosed
	}
	if e, ok := errors.AsType[*jrpc2.Error](err); ok && !r.rpc.IsStopped() {
		var w wireError
		if e.Code != codeFailed || json.Unmarshal(e.Data, &w) != nil {
			return err
		}
		// Cancelled or closed, but not by us: the other process is ending.
		if err = w.error(); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
			return err
		}
	}
	return ErrGone
}

func (r *remote) Do(ctx context.Context, q Request) (Result, error) {
	if q.Wish == nil {
		return nil, errors.New("node: a request without a wish")
	}
	c, ok := codecs[q.Wish.Wish()]
	if !ok {
		return nil, fmt.Errorf("node: wish of type %T", q.Wish)
	}
	args, err := json.Marshal(q.Wish)
	if err != nil {
		return nil, err
	}
	rsp, err := r.rpc.Call(ctx, methodDo, doParams{q.Group, q.Wish.Wish(), args, q.ID})
	if err != nil {
		return nil, r.failure(ctx, err)
	}
	var raw json.RawMessage
	if err := rsp.UnmarshalResult(&raw); err != nil {
		return nil, err
	}
	return c.answer(raw)
}

func (r *remote) Events(ctx context.Context, group string, after uint64) iter.Seq2[member.Event, error] {
	return func(yield func(member.Event, error) bool) {
		var p readerParams
		if err := r.rpc.CallResult(ctx, methodOpen, openParams{group, after}, &p); err != nil {
			yield(member.Event{}, r.failure(ctx, err))
			return
		}
		defer func() { _ = r.rpc.Notify(context.Background(), methodClose, p) }()
		for {
			var list []member.Event
			if err := r.rpc.CallResult(ctx, methodNext, p, &list); err != nil {
				yield(member.Event{}, r.failure(ctx, err))
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Close hangs up; the other process goes on.
func (r *remote) Close() error {
	r.closed.Store(true)
	return r.rpc.Close()
}
