#!/bin/bash
# Makes the comparison's throw-away PKI in $1: ca.pem, ca.key, and server.{pem,key} (ECDSA P-256; server.pem holds
# chain and key, as Farend imports it). The phones' certificates are made by sipload with ca.key.
set -euo pipefail
umask 077
mkdir -p "$1"
cd "$1"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
key ca.key
openssl req -x509 -new -key ca.key -sha256 -days 30 -subj "/CN=teleworker bench CA" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out ca.pem
key server.key
openssl req -new -key server.key -subj "/CN=sbc.example.test" -out server.csr
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 30 -out server.crt \
  -extfile <(printf '%s\n' basicConstraints=CA:FALSE keyUsage=critical,digitalSignature \
    extendedKeyUsage=serverAuth,clientAuth subjectAltName=DNS:sbc.example.test,DNS:inside.example.test) 2>/dev/null
cat server.crt server.key >server.pem
rm -f server.csr
