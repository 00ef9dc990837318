package main

import diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"

type (
	diagnosis  = diag.Diagnosis
	cause      = diag.Cause
	exitStatus = diag.Status
)

const (
	causeQuery     = diag.Query
	causeRoleOther = diag.RoleOther
)
