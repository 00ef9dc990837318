// Package agentclient is what asks a running agent, or proxy, for a token: at the socket that is named by the identity,
// in the little of HTTP that this takes. It imports little, for package early.
//
//	identity.go  whose tokens the flags and the environment mean
//	tools.go     who is signed in to the tools that a credential asks
//	ask.go       what is said on the connection
package agentclient

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// A Token is what an agent gives.
type Token struct {
	Token     string    `json:"token"`
	ExpiresOn time.Time `json:"expires_on"`
}

// ErrEnding is of an agent that was told to end before it had the token.
var ErrEnding = errors.New("the agent has been told to end")

const statusUnavailable = "503" // of one that ends

// maxAnswer is far more than any token: the largest are seven kilobytes.
const maxAnswer = 64 << 10

// Ask asks the agent at the other end of conn. heard is called when the agent has said that it has heard, before it
// answers. The error may be the agent's own.
func Ask(conn io.ReadWriter, scope string, heard func()) (Token, error) {
	// HTTP/1.0 ends the connection after the answer, which is then in one piece.
	request := "GET /token?scope=" + escape(scope) + " HTTP/1.0\r\nHost: agent\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return Token{}, fmt.Errorf("asking the agent for a token: %w", err)
	}
	status, body, err := readAnswer(bufio.NewReader(io.LimitReader(conn, maxAnswer)), heard)
	if err != nil {
		return Token{}, fmt.Errorf("asking the agent for a token: %w", err)
	}
	if status == statusUnavailable {
		return Token{}, ErrEnding
	}
	if status != "200" {
		said := strings.TrimSpace(string(body))
		return Token{}, errors.New(cmp.Or(said, "asking the agent for a token: it answers "+status))
	}
	var token Token
	err = json.Unmarshal(body, &token)
	// A line break in it would begin another line of a password file.
	if err != nil || token.Token == "" || strings.ContainsFunc(token.Token, unicode.IsControl) {
		return Token{}, errors.New("asking the agent for a token: there is none in its answer")
	}
	return token, nil
}

// escape is url.QueryEscape, whose package comes too late for package early: see package paths.
func escape(text string) string {
	var escaped strings.Builder
	for _, b := range []byte(text) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.~", b) >= 0 {
			escaped.WriteByte(b)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", b)
		}
	}
	return escaped.String()
}

// readAnswer reads an answer to its end, and what the agent says before it: that it has heard (102 Processing).
func readAnswer(r *bufio.Reader, heard func()) (status string, body []byte, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		version, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(version, "HTTP/1.") {
			return "", nil, errors.New("malformed HTTP")
		}
		heard()
		for strings.TrimSpace(line) != "" { // to the end of the header
			if line, err = r.ReadString('\n'); err != nil {
				return "", nil, err
			}
		}
		if strings.HasPrefix(rest, "1") {
			continue
		}
		status, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		body, err = io.ReadAll(r)
		return status, body, err
	}
}
