// Package connections bounds how many connections a server has open: of one address, and in all.
//
// Where there is no room, the connection that has waited longest is closed for the new one. A connection waits while
// no request on it is being worked on: in its TLS handshake, between requests, and while its client sends a request.
// So clients that open connections and do nothing take room from each other only, and those that send a request at
// once are served.
package connections

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
)

// Limits are how many connections may be open at once. Each must be 1 or more.
type Limits struct {
	Total      int
	PerAddress int // of an IPv4 address, or an IPv6 network of 64 bits
}

// Counts are how often there was no room, since the listener was made.
type Counts struct {
	Evicted int64 // connections that waited, and were closed for another
	Refused int64 // connections that were closed at once: all others were being worked on
}

// A Listener accepts connections within its limits. Its methods may be called from several goroutines.
type Listener struct {
	net.Listener
	limits Limits

	mu        sync.Mutex // guards what follows
	open      int
	byAddress map[netip.Addr]int
	waiting   *list.List // of *conn, the one that has waited longest first
	counts    Counts
}

// Listen returns a Listener on l.
func Listen(l net.Listener, limits Limits) *Listener {
	return &Listener{Listener: l, limits: limits, byAddress: map[netip.Addr]int{}, waiting: list.New()}
}

// Accept waits for the next connection that there is room for.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: accepted, listener: l, address: Network(Address(accepted.RemoteAddr().String()))}
		evicted, ok := l.admit(c)
		if evicted != nil {
			_ = evicted.Conn.Close() // the server then closes it as well
		}
		if ok {
			return c, nil
		}
		_ = accepted.Close()
	}
}

// admit makes room for c, if it can.
func (l *Listener) admit(c *conn) (evicted *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.byAddress[c.address] >= l.limits.PerAddress:
		evicted = l.longestWaiting(func(other *conn) bool { return other.address == c.address })
	case l.open >= l.limits.Total:
		evicted = l.longestWaiting(func(*conn) bool { return true })
	default:
		l.add(c)
		return nil, true
	}
	if evicted == nil {
		l.counts.Refused++
		return nil, false
	}
	l.counts.Evicted++
	l.remove(evicted)
	l.add(c)
	return evicted, true
}

func (l *Listener) longestWaiting(matches func(*conn) bool) *conn {
	for e := l.waiting.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); matches(c) {
			return c
		}
	}
	return nil
}

func (l *Listener) add(c *conn) {
	l.open++
	l.byAddress[c.address]++
	c.waits = l.waiting.PushBack(c)
}

// remove may be called again for the same connection.
func (l *Listener) remove(c *conn) {
	if c.removed {
		return
	}
	c.removed = true
	l.open--
	if l.byAddress[c.address]--; l.byAddress[c.address] == 0 {
		delete(l.byAddress, c.address)
	}
	if c.waits != nil {
		l.waiting.Remove(c.waits)
		c.waits = nil
	}
}

// Counts returns the counts so far.
func (l *Listener) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// conn is an open connection. What follows its listener is guarded by the listener's mutex.
type conn struct {
	net.Conn
	address  netip.Addr
	listener *Listener

	requests int           // that are being worked on
	waits    *list.Element // nil while there are such
	removed  bool
}

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// working changes how many requests are being worked on.
func (c *conn) working(by int) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.requests += by
	switch {
	case c.removed:
	case c.requests == 0:
		c.waits = c.listener.waiting.PushBack(c)
	case c.waits != nil:
		c.listener.waiting.Remove(c.waits)
		c.waits = nil
	}
}

type connKey struct{}

// Context is an http.Server's ConnContext: it lets [Working] find the connection.
func (l *Listener) Context(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Working keeps the connection of a request from being closed for another one, until done is called. It is to be called
// once the request has been read: a client that takes its time to send one waits. ctx is the request's.
func Working(ctx context.Context) (done func()) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok { // not from a Listener
		return func() {}
	}
	c.working(1)
	return func() { c.working(-1) }
}
