package connections

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

// pipes is a listener whose connections are made by dial. They come from an address of the caller's choice.
type pipes struct {
	net.Listener
	dialed chan net.Conn
}

type pipeEnd struct {
	net.Conn
	from string
}

func (p pipeEnd) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(p.from), 1))
}

func (p pipes) Accept() (net.Conn, error) { return <-p.dialed, nil }

// dialer is a test's clients and the server's side of their connections.
type dialer struct {
	t        *testing.T
	listener *Listener
	dialed   chan net.Conn
}

func newDialer(t *testing.T, limits Limits) *dialer {
	dialed := make(chan net.Conn, 10)
	return &dialer{t, Listen(pipes{dialed: dialed}, limits), dialed}
}

// dial makes a connection that the server accepts.
func (d *dialer) dial(from string) (client net.Conn, server *conn) {
	client = d.dialOnly(from)
	accepted, err := d.listener.Accept()
	require.NoError(d.t, err)
	d.t.Cleanup(func() { accepted.Close() })
	return client, accepted.(*conn)
}

func (d *dialer) dialOnly(from string) net.Conn {
	client, server := net.Pipe()
	d.t.Cleanup(func() { client.Close() })
	d.dialed <- pipeEnd{server, from}
	return client
}

// closed reports whether the connection was closed for another, at both ends.
func closed(client net.Conn, server *conn) bool {
	if server.removed {
		_, err := client.Read(make([]byte, 1))
		return err == io.EOF
	}
	return false
}

func (d *dialer) work(server *conn) (done func()) {
	return Working(d.listener.Context(context.Background(), tls.Server(server, &tls.Config{})))
}

func TestTheLongestWaitingMakesRoom(t *testing.T) {
	const attacker, other = "192.0.2.1", "192.0.2.2"
	for _, row := range []struct {
		name   string
		limits Limits
		from   []string // of the connections
		work   []int    // which of them have a request
		turned []int    // which of them had one, in that order
		newest string   // from where one more comes
		want   int      // which is closed for it
	}{
		{"of the address", Limits{10, 2}, []string{other, attacker, attacker}, nil, nil, attacker, 1},
		{"of all", Limits{3, 10}, []string{other, attacker, attacker}, nil, nil, attacker, 0},
		{"not one with a request", Limits{10, 2}, []string{attacker, attacker}, []int{0}, nil, attacker, 1},
		{"not one that had a request since", Limits{10, 2}, []string{attacker, attacker}, nil, []int{0}, attacker, 1},
		{"in the order of their last requests", Limits{10, 3}, []string{attacker, attacker, attacker}, nil, []int{2, 0, 1},
			attacker, 2},
		{"of an IPv6 network", Limits{10, 2}, []string{"2001:db8::1", "2001:db8::2"}, nil, nil, "2001:db8::3", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDialer(t, row.limits)
			clients, servers := make([]net.Conn, len(row.from)), make([]*conn, len(row.from))
			for i, from := range row.from {
				clients[i], servers[i] = d.dial(from)
			}
			for _, i := range row.work {
				defer d.work(servers[i])()
			}
			for _, i := range row.turned {
				d.work(servers[i])()
			}
			d.dial(row.newest)
			for i := range servers {
				assert.Equal(t, i == row.want, closed(clients[i], servers[i]), "connection %d", i)
			}
			assert.Equal(t, Counts{Evicted: 1}, d.listener.Counts())
			assert.Equal(t, len(row.from), d.listener.open)
		})
	}
}

func TestNoneIsClosedWhileThereIsRoom(t *testing.T) {
	d := newDialer(t, Limits{Total: 3, PerAddress: 2})
	_, first := d.dial("192.0.2.1")
	_, second := d.dial("192.0.2.1")
	require.NoError(t, first.Close())
	require.NoError(t, first.Close(), "it is counted once")
	_, third := d.dial("192.0.2.1")
	_, fourth := d.dial("192.0.2.2")
	for _, c := range []*conn{second, third, fourth} {
		assert.False(t, c.removed)
	}
	assert.Zero(t, d.listener.Counts())
}

func TestWhereAllHaveRequestsANewOneIsRefused(t *testing.T) {
	d := newDialer(t, Limits{Total: 10, PerAddress: 1})
	_, busy := d.dial("192.0.2.1")
	one, two := d.work(busy), d.work(busy)
	refused := d.dialOnly("192.0.2.1")
	d.dial("192.0.2.2") // accepted in its place
	_, err := refused.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	assert.Equal(t, Counts{Refused: 1}, d.listener.Counts())

	one()
	_, ok := d.listener.admit(&conn{address: busy.address})
	assert.False(t, ok, "one of two requests is still there")
	two()
	d.dial("192.0.2.1")
	assert.True(t, busy.removed)
}

func TestWorkingWithoutAListener(t *testing.T) { Working(context.Background())() }
