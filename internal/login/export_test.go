package login

// ErrRepeats is that of a server that repeats the token.
var ErrRepeats = errRepeats
