package proxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// One of several hosts accepts connections and says nothing, as while it fails over.
func TestReadinessWhileTheFirstHostIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	upstream := config.Server.Copy()
	good := &pgconn.FallbackConfig{Host: upstream.Host, Port: upstream.Port, TLSConfig: upstream.TLSConfig}
	upstream.Port = uint16(silent.Addr().(*net.TCPAddr).Port)
	upstream.Fallbacks = append([]*pgconn.FallbackConfig{good}, upstream.Fallbacks...)
	upstream.ConnectTimeout = time.Minute
	config.Server = upstream
	p, _ := startProxy(t, config)
	readyWithin := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return p.ready(ctx)
	}
	eventually(t, "the second one answers", func() bool { return readyWithin(2*time.Second) == nil })

	upstream.ConnectTimeout = 100 * time.Millisecond
	eventually(t, "within the time to connect", func() bool { return readyWithin(time.Minute) == nil })
	upstream.Fallbacks = nil
	assert.ErrorIs(t, readyWithin(time.Second), context.DeadlineExceeded)
}

// Of several servers one is silent. Probes hear of it before they give up, and are no load on it.
func TestReadinessWhileOneOfSeveralIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns atomic.Int32
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conns.Add(1)
		}
	})
	defer accepting.Wait()
	defer silent.Close()
	a := newAzure(t)
	config, upstreams := a.named(t, "good", "silent")
	upstreams[1].Server = upstreams[1].Server.Copy()
	upstreams[1].Server.Port = uint16(silent.Addr().(*net.TCPAddr).Port)
	config.limits = patient
	p, _ := startProxyOf(t, config)
	connectTo(t, socketDSN(upstreams[0].SocketDir)) // there is a token
	handler := p.Handler()
	var probing sync.WaitGroup
	for range 50 {
		probing.Go(func() {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			assert.Equal(t, http.StatusOK, answer.Code)
			assert.Equal(t, "silent: "+errNotYet.Error()+"\n", answer.Body.String(), "it did not wait for the whole time")
		})
	}
	probing.Wait()
	assert.LessOrEqual(t, conns.Load(), int32(1), "of 50 probes: the first one's still waits")
}

// A role that is refused says nothing about the proxy, and /readyz does not take the turn of a client to try it again.
func TestReadinessWhileTheServerRefusesTheRole(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.RefuseLogins("28P01", "password authentication failed"))
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	refused := func() int64 { return p.config.Hook.Stats().Refused }
	ready := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return p.ready(ctx)
	}
	eventually(t, "logins are paced", func() bool {
		before := refused()
		_, err := pgx.Connect(t.Context(), p.socketDSN())
		require.Error(t, err)
		return refused() == before
	})
	before := refused()
	assert.NoError(t, ready())
	assert.Equal(t, before, refused(), "it has not logged in")

	a.server.SetFault(aadpooltest.Fault{})
	eventually(t, "the next client whose turn it is gets in", func() bool {
		assert.NoError(t, ready())
		conn, err := pgx.Connect(t.Context(), p.socketDSN())
		if err != nil {
			return false
		}
		return assert.NoError(t, conn.Close(t.Context()))
	})
}
