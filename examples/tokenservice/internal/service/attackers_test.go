package service_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
)

// dialTCP opens a connection to a replica, which ends with the test.
func (e *environment) dialTCP(replica *localservice.Replica) net.Conn {
	conn, err := e.tryTCP(replica, "127.0.0.1")
	require.NoError(e.t, err)
	e.t.Cleanup(func() { conn.Close() })
	return conn
}

func (e *environment) tryTCP(replica *localservice.Replica, from string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: eventually, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return dialer.Dial("tcp", strings.TrimPrefix(replica.URL, "https://"))
}

// dialTLS opens a connection for one of the protocols "http/1.1" and "h2".
func (e *environment) dialTLS(replica *localservice.Replica, protocol string) *tls.Conn {
	conn, err := e.secure(e.dialTCP(replica), protocol)
	require.NoError(e.t, err)
	return conn
}

func (e *environment) secure(conn net.Conn, protocol string) (*tls.Conn, error) {
	secured := tls.Client(conn, &tls.Config{RootCAs: e.roots, ServerName: "localhost", NextProtos: []string{protocol}})
	return secured, secured.HandshakeContext(context.Background())
}

// tokenHeader is that of a token request with a body of length bytes, of which none is sent. The server says when it
// reads it.
func tokenHeader(length int) string {
	return fmt.Sprintf("POST /tokenservice/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", form, length)
}

// openBody opens a connection and holds a token request on it whose body does not come. It returns once the server
// waits for the body.
func (e *environment) openBody(replica *localservice.Replica) (*tls.Conn, *bufio.Reader) {
	conn := e.dialTLS(replica, "http/1.1")
	_, err := io.WriteString(conn, tokenHeader(100))
	require.NoError(e.t, err)
	answers := bufio.NewReader(conn)
	line, err := answers.ReadString('\n')
	require.NoError(e.t, err)
	require.Equal(e.t, "HTTP/1.1 100 Continue\r\n", line)
	_, err = answers.ReadString('\n')
	require.NoError(e.t, err)
	return conn, answers
}

// streams is a client of HTTP/2 that sends the frames that a test chooses.
type streams struct {
	t      testing.TB
	conn   *tls.Conn
	framer *http2.Framer
	max    uint32 // streams at once that the server allows
	next   uint32
	header bytes.Buffer
	hpack  *hpack.Encoder
}

func (e *environment) dialStreams(replica *localservice.Replica) *streams {
	s, err := startStreams(e.dialTLS(replica, "h2"))
	require.NoError(e.t, err)
	s.t = e.t
	return s
}

func startStreams(conn *tls.Conn) (*streams, error) {
	s := &streams{conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	s.hpack = hpack.NewEncoder(&s.header)
	// Both at once: the server waits two seconds from the preface to the settings.
	opening := bytes.NewBufferString(http2.ClientPreface)
	if err := http2.NewFramer(opening, nil).WriteSettings(); err != nil {
		return nil, err
	}
	if _, err := opening.WriteTo(s.conn); err != nil {
		return nil, err
	}
	frame, err := s.framer.ReadFrame()
	if err != nil {
		return nil, err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		return nil, fmt.Errorf("the first frame is %v", frame)
	}
	s.max, _ = settings.Value(http2.SettingMaxConcurrentStreams)
	return s, s.framer.WriteSettingsAck()
}

// open starts a token request. Its body may come later.
func (s *streams) open(as localservice.Registration) (id uint32, err error) {
	s.header.Reset()
	basic := url.QueryEscape(as.ClientID.String()) + ":" + url.QueryEscape(as.Secret.Reveal())
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/tokenservice/oauth2/v2.0/token"},
		{"content-type", form}, {"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(basic))},
	} {
		if err := s.hpack.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return 0, err
		}
	}
	id = s.next
	s.next += 2
	return id, s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.header.Bytes(),
		EndHeaders: true})
}

func (s *streams) send(id uint32, body string) error {
	return s.framer.WriteData(id, true, []byte(body))
}

// until reads frames until one satisfies want.
func (s *streams) until(want func(http2.Frame) bool) {
	s.t.Helper()
	for {
		frame, err := s.framer.ReadFrame()
		require.NoError(s.t, err)
		if want(frame) {
			return
		}
	}
}

// answerPings does what a client of HTTP/2 must, until its connection ends.
func (s *streams) answerPings() {
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			return
		}
		if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
			_ = s.framer.WritePing(true, ping.Data)
		}
	}
}

// status is that of an answer on the stream, or empty.
func status(frame http2.Frame, id uint32) string {
	if headers, ok := frame.(*http2.MetaHeadersFrame); ok && headers.StreamID == id {
		return headers.PseudoValue("status")
	}
	return ""
}

// freshClient returns a client whose connections are new: none of them was there before an attack.
func (e *environment) freshClient() *http.Client {
	client := e.Client()
	e.t.Cleanup(client.CloseIdleConnections)
	return client
}

// mustServe logs in as a client that behaves.
func (e *environment) mustServe(client *http.Client, replica *localservice.Replica, as localservice.Registration) {
	e.t.Helper()
	response, err := client.Do(tokenRequest(replica, as, "grant_type", "client_credentials"))
	require.NoError(e.t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	assert.NoError(e.t, err)
	assert.Equal(e.t, http.StatusOK, response.StatusCode)
}
