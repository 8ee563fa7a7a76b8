-- A transaction for pgbench(1): each client counts, so that a row that is missing can be named.
\set number :number + 1
INSERT INTO ledger (run, client, number) VALUES (:run, :client_id, :number);
