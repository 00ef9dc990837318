package pgwire

import (
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Send writes the messages in one piece.
func Send(w io.Writer, messages ...pgproto3.BackendMessage) error {
	var packet []byte
	for _, m := range messages {
		var err error
		if packet, err = m.Encode(packet); err != nil {
			return err
		}
	}
	_, err := w.Write(packet)
	return err
}

// Fatal is the error that ends a login or a session. The codes:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func Fatal(sqlState, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: sqlState, Message: message}
}

// ErrorResponse is e as a server sends it.
func ErrorResponse(e *pgconn.PgError) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity:            e.Severity,
		SeverityUnlocalized: e.SeverityUnlocalized,
		Code:                e.Code,
		Message:             e.Message,
		Detail:              e.Detail,
		Hint:                e.Hint,
		Where:               e.Where,
		SchemaName:          e.SchemaName,
		TableName:           e.TableName,
		ColumnName:          e.ColumnName,
		DataTypeName:        e.DataTypeName,
		ConstraintName:      e.ConstraintName,
		File:                e.File,
		Line:                e.Line,
		Routine:             e.Routine,
	}
}

// NoticeResponse is a notice as a server sends it.
func NoticeResponse(n *pgconn.Notice) *pgproto3.NoticeResponse {
	response := pgproto3.NoticeResponse(*ErrorResponse((*pgconn.PgError)(n)))
	return &response
}
