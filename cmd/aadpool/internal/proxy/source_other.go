//go:build !unix

package proxy

import "net"

// pollable returns conn so that it can be a session's.
func pollable(conn net.Conn) net.Conn { return conn }

// A source is the reading side of a peer. On this system it holds its buffer while it waits.
type source struct {
	conn   net.Conn
	early  []byte // what has been read before
	buffer *[bufferSize]byte
}

func newSource(conn, _ net.Conn, early []byte) *source { return &source{conn: conn, early: early} }

// next waits for the next piece, which is there until release.
func (s *source) next() (piece []byte, err error) {
	if piece, s.early = s.early, nil; len(piece) > 0 {
		return piece, nil
	}
	s.buffer = buffers.Get().(*[bufferSize]byte)
	n, err := s.conn.Read(s.buffer[:])
	return s.buffer[:n], err
}

// release gives the buffer back.
func (s *source) release() {
	if s.buffer != nil {
		buffers.Put(s.buffer)
		s.buffer = nil
	}
}
