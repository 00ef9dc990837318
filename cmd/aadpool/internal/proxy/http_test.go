package proxy

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Connections that say nothing keep no probe out, and take no more than their share of the files.
func TestIdleHTTPConnectionsGiveWay(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.HTTP = "127.0.0.1:0"
	p, _ := startProxy(t, config)
	address := p.proxy.http.listener.Addr().String()
	var idle []net.Conn
	for range 52 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		idle = append(idle, conn)
	}
	for _, conn := range idle[:52-maxHTTPConns] {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := conn.Read(make([]byte, 1))
		assert.False(t, isTimeout(err), "it is closed: %v", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for range 3 {
		answer, err := client.Get("http://" + address + "/livez")
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, answer.StatusCode)
		require.NoError(t, answer.Body.Close())
	}
	connectTo(t, p.socketDSN())
}

// pipes is a listener to which a test connects by what it sends.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestSlowHTTPClientsAreCut(t *testing.T) {
	for _, row := range []struct {
		name, said string
		reads      bool
		want       time.Duration
	}{
		{"says nothing", "", true, httpReadTimeout},
		{"says half a request", "GET /livez HTTP/1.1\r\n", true, httpReadTimeout},
		{"asks for nothing more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, httpIdleTimeout},
		{"takes no answer", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, httpWriteTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := make(pipes)
				server := &httpServer{listener: &boundedListener{Listener: listener}}
				go server.serve(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
				client, accepted := net.Pipe()
				ended := make(chan time.Duration)
				began := time.Now()
				listener <- endTeller{accepted, func() { ended <- time.Since(began) }}
				_, err := io.WriteString(client, row.said)
				require.NoError(t, err)
				if row.reads {
					go func() { _, _ = io.Copy(io.Discard, client) }()
				}
				assert.Equal(t, row.want, <-ended)
				close(listener)
			})
		})
	}
}

// An endTeller tells when it is closed.
type endTeller struct {
	net.Conn
	closed func()
}

func (c endTeller) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}
