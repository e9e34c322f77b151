BEGIN TRANSACTION;
CREATE TABLE deliveries (
	id VARCHAR(64) NOT NULL, 
	owner VARCHAR(255) NOT NULL, 
	body TEXT NOT NULL, 
	due FLOAT NOT NULL, 
	attempts INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "deliveries" VALUES('msg_5b1f67e0ba279d9b095c8006','ann','{"type": "job.cancelled", "timestamp": "2026-11-26T04:35:33Z", "data": {"id": "job_2"}}',1.7956677339059975147e+09,0);
CREATE TABLE jobs (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(64) NOT NULL, 
	owner VARCHAR(255) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	form TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	progress INTEGER NOT NULL, 
	created FLOAT NOT NULL, 
	due FLOAT NOT NULL, 
	started FLOAT, 
	ended FLOAT, 
	expires FLOAT, 
	claimed_by VARCHAR(64), 
	attempts INTEGER NOT NULL, 
	fault TEXT, 
	answer TEXT, 
	files TEXT NOT NULL, 
	secret VARCHAR(64) NOT NULL, 
	bytes INTEGER NOT NULL, 
	"key" VARCHAR(255), 
	digest VARCHAR(64) NOT NULL, 
	UNIQUE (owner, "key"), 
	UNIQUE (id)
);
INSERT INTO "jobs" VALUES(1,'job_1','ann','images.generation','{"prompt": "R\u00e4v"}','queued',0,1.79566773388675236704e+09,1.79566773388675236704e+09,NULL,NULL,NULL,NULL,0,NULL,NULL,'[]','CSPBR1pMDz95XbMCLeoH8S6JJVF4gTm60TEHvREz80A',4118,'k','d');
INSERT INTO "jobs" VALUES(2,'job_2','ann','images.generation','{"prompt": "b"}','cancelled',0,1.7956677339017622471e+09,1.7956677339017622471e+09,NULL,1.7956677339059975147e+09,1.79567133390599751466e+09,NULL,0,NULL,NULL,'[]','7FFMrX52xWs8uiSTKUuy2VQQJGFaxN6jJ1ecnbCI07Q',4111,NULL,'');
CREATE TABLE webhooks (
	owner VARCHAR(255) NOT NULL, 
	url TEXT NOT NULL, 
	secret VARCHAR(128) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (owner)
);
INSERT INTO "webhooks" VALUES('ann','https://example.org/hook','whsec_5UjZ0iNpsVHOC/sJLKrcW6cO3oQJe+l9V0alJZqO1Hg=',1.79566773389856719966e+09);
CREATE INDEX jobs_by_owner ON jobs (owner, number);
CREATE INDEX jobs_by_status ON jobs (status, number);
CREATE INDEX ix_deliveries_due ON deliveries (due);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',2);
COMMIT;
