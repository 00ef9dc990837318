package proxy

import "sync"

// bufferSize is how much is read at once: more than TLS's longest record, and than PostgreSQL sends at once.
const bufferSize = 32 << 10

// buffers are in use only while there is something in them: a session that is idle has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
