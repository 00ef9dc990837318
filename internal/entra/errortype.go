package entra

import (
	"context"
	"errors"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// OtherError is the type of an error that none is known for:
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/.
const OtherError = "_OTHER"

var (
	errorCode  = lazyregexp.New(`AADSTS\d+`)
	httpStatus = lazyregexp.New(`(?m)^RESPONSE (\d{3})\b`) // as azcore and azidentity print it
)

// ErrorType is the kind of a credential's error in one word, for metrics: Entra's code where there is one, such as
// AADSTS7000215, or else the status of the HTTP response, or what ended the context: timeout, canceled.
func ErrorType(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	text := err.Error()
	if code := errorCode.FindString(text); code != "" {
		return code
	}
	if status := httpStatus.FindStringSubmatch(text); status != nil {
		return status[1]
	}
	return OtherError
}
