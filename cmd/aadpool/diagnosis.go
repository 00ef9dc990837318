package main

import (
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
)

type (
	diagnosis  = diag.Diagnosis
	cause      = diag.Cause
	exitStatus = diag.Status

	step         = report.Step
	outcome      = report.Outcome
	milliseconds = report.Milliseconds
)

const causeRoleOther = diag.RoleOther

const (
	passed  = report.Passed
	warned  = report.Warned
	skipped = report.Skipped
	failed  = report.Failed
)
