"""Every CQL statement of the program, named. `{keyspace}` and `{results}` are filled in once.

A `Statement` is prepared on first use. `repeatable` says that running it twice equals running it
once, so that it may be sent again when an answer is lost; compare-and-set never is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """Text with `?` markers."""

    text: str
    repeatable: bool = True


def _insert(table: str, columns: str, suffix: str = "") -> Statement:
    names = columns.split()
    marks = ", ".join("?" * len(names))
    # All parts are constants of this module; values are bound, never formatted in.
    text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks}) {suffix}".strip()  # noqa: S608
    return Statement(text, repeatable="IF " not in suffix)


def _cas(text: str) -> Statement:
    return Statement(text, repeatable=False)


# Roles of the embedded Cassandra (a password cannot be bound: it is ours, and URL-safe).
CREATE_ROLE = (
    "CREATE ROLE IF NOT EXISTS {user} WITH SUPERUSER = true AND LOGIN = true "
    "AND PASSWORD = '{password}'"
)
RETIRE_FIRST_ROLE = (
    "ALTER ROLE cassandra WITH SUPERUSER = false AND LOGIN = false AND PASSWORD = '{password}'"
)
FORGET_CACHES = (
    "TRUNCATE system_views.credentials_cache_keys",
    "TRUNCATE system_views.roles_cache_keys",
)

# Schema (simple statements: they run once, before anything can be prepared).
KEYSPACES = (
    (
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        "{{'class': 'NetworkTopologyStrategy', '{datacenter}': {replication}}}"
    ),
    (
        "CREATE KEYSPACE IF NOT EXISTS {results} WITH replication = "
        "{{'class': 'NetworkTopologyStrategy', '{datacenter}': {replication}}} "
        "AND durable_writes = false"
    ),
)
LEDGER = {
    "schema_migrations": (
        "CREATE TABLE IF NOT EXISTS {keyspace}.schema_migrations (number int PRIMARY KEY, "
        "name text, sha256 text, applied_at timestamp) WITH id = {table_id}"
    ),
    "schema_lock": (
        "CREATE TABLE IF NOT EXISTS {keyspace}.schema_lock (name text PRIMARY KEY, owner uuid) "
        "WITH id = {table_id}"
    ),
}
TABLES = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
MIGRATIONS = "SELECT number, sha256 FROM {keyspace}.schema_migrations"
PUT_MIGRATION = (
    "INSERT INTO {keyspace}.schema_migrations (number, name, sha256, applied_at) "
    "VALUES (%s, %s, %s, toTimestamp(now()))"
)
TAKE_LOCK = (
    "INSERT INTO {keyspace}.schema_lock (name, owner) VALUES ('migrate', %s) "
    "IF NOT EXISTS USING TTL {ttl}"
)
DROP_LOCK = "DELETE FROM {keyspace}.schema_lock WHERE name = 'migrate' IF owner = %s"

# Listings and images
PUT_LISTING = _insert("{keyspace}.listings", "listing_id title attributes")
LISTING = Statement("SELECT * FROM {keyspace}.listings WHERE listing_id = ?")
LISTINGS_OF = Statement("SELECT * FROM {keyspace}.listings WHERE listing_id IN ?")
TITLES_OF = Statement("SELECT listing_id, title FROM {keyspace}.listings WHERE listing_id IN ?")
LISTINGS = Statement("SELECT * FROM {keyspace}.listings")
DELETE_LISTING = Statement("DELETE FROM {keyspace}.listings WHERE listing_id = ?")

IMAGE_COLUMNS = "listing_id image_id uri content_hash width height format bytes position added_at"
PUT_IMAGE = _insert("{keyspace}.images", IMAGE_COLUMNS)
IMAGE = Statement("SELECT * FROM {keyspace}.images WHERE listing_id = ? AND image_id = ?")
IMAGE_ADDED = Statement(
    "SELECT image_id, added_at FROM {keyspace}.images WHERE listing_id = ? AND image_id = ?"
)
IMAGES_OF = Statement("SELECT * FROM {keyspace}.images WHERE listing_id = ?")
IMAGES = Statement("SELECT * FROM {keyspace}.images")
DELETE_IMAGE = Statement("DELETE FROM {keyspace}.images WHERE listing_id = ? AND image_id = ?")
PUT_IMAGE_LISTING = _insert("{keyspace}.image_listing", "image_id listing_id")
IMAGE_LISTING = Statement("SELECT listing_id FROM {keyspace}.image_listing WHERE image_id = ?")
DELETE_IMAGE_LISTING = Statement("DELETE FROM {keyspace}.image_listing WHERE image_id = ?")
PUT_THUMBNAIL = _insert("{keyspace}.thumbnails", "image_id webp width height")
THUMBNAIL = Statement("SELECT * FROM {keyspace}.thumbnails WHERE image_id = ?")
DELETE_THUMBNAIL = Statement("DELETE FROM {keyspace}.thumbnails WHERE image_id = ?")
MEASURE_COLUMNS = (
    "listing_id image_id sharpness brightness contrast blank colour pixels phash signature"
)
PUT_MEASURES = _insert("{keyspace}.measures", MEASURE_COLUMNS)
MEASURES = Statement("SELECT * FROM {keyspace}.measures WHERE listing_id = ? AND image_id = ?")
ALL_MEASURES = Statement("SELECT * FROM {keyspace}.measures")
MEASURED = Statement("SELECT image_id FROM {keyspace}.measures")
DELETE_MEASURES = Statement("DELETE FROM {keyspace}.measures WHERE listing_id = ? AND image_id = ?")
PUT_CHANGE = _insert("{keyspace}.changes", "hour slot change_id kind listing_id image_id")
CHANGES = Statement(
    "SELECT * FROM {keyspace}.changes WHERE hour = ? AND slot = ? "
    "AND change_id >= minTimeuuid(?) AND change_id < minTimeuuid(?)"
)

# Files and sources
PUT_FILE = _insert(
    "{keyspace}.files", "source bucket uri state reason listing_id image_id bytes mtime_ns"
)
FILES = Statement("SELECT * FROM {keyspace}.files WHERE source = ? AND bucket = ?")
FILE = Statement("SELECT * FROM {keyspace}.files WHERE source = ? AND bucket = ? AND uri = ?")
PUT_SOURCE = _insert("{keyspace}.sources", "source kind manifest files ready failed finished_at")
SOURCES = Statement("SELECT * FROM {keyspace}.sources")

# Models and features
PUT_MODEL = _insert("{keyspace}.models", "model_id name architecture weights_sha256 transform dim")
MODEL = Statement("SELECT * FROM {keyspace}.models WHERE model_id = ?")
MODELS = Statement("SELECT * FROM {keyspace}.models")
FEATURE_COLUMNS = "listing_id model_id image_id feature_vector dim dtype crc32c"
PUT_FEATURE = _insert("{keyspace}.features", FEATURE_COLUMNS)
FEATURES_OF = Statement("SELECT * FROM {keyspace}.features WHERE listing_id = ? AND model_id = ?")
FEATURE = Statement(
    "SELECT * FROM {keyspace}.features WHERE listing_id = ? AND model_id = ? AND image_id = ?"
)
FEATURE_KEYS = Statement(
    "SELECT model_id, image_id, dim FROM {keyspace}.features WHERE listing_id = ?"
)
FEATURE_NUMBERS = Statement(
    "SELECT sum(dim) AS numbers FROM {keyspace}.features WHERE listing_id = ?"
)
DELETE_FEATURE = Statement(
    "DELETE FROM {keyspace}.features WHERE listing_id = ? AND model_id = ? AND image_id = ?"
)
DELETE_FEATURES = Statement("DELETE FROM {keyspace}.features WHERE listing_id = ?")
PATCH_COLUMNS = "listing_id model_id image_id codes scale side dim crc32c"
PUT_PATCHES = _insert("{keyspace}.patches", PATCH_COLUMNS)
# Both read all of the table; the filter spares sending what is of other models.
PATCHES = Statement("SELECT * FROM {keyspace}.patches WHERE model_id = ? ALLOW FILTERING")
PATCHED = Statement("SELECT side, dim FROM {keyspace}.patches WHERE model_id = ? ALLOW FILTERING")
PATCH_KEYS = Statement("SELECT model_id, image_id FROM {keyspace}.patches WHERE listing_id = ?")
DELETE_PATCHES = Statement(
    "DELETE FROM {keyspace}.patches WHERE listing_id = ? AND model_id = ? AND image_id = ?"
)
DELETE_ALL_PATCHES = Statement("DELETE FROM {keyspace}.patches WHERE listing_id = ?")

# Stock: the load goes below every later compare-and-set.
LOAD_STOCK = _insert("{keyspace}.stock_level", "listing_id inventory etag", "USING TIMESTAMP 1")
STOCK = Statement("SELECT * FROM {keyspace}.stock_level WHERE listing_id = ?")
STOCK_OF = Statement("SELECT * FROM {keyspace}.stock_level WHERE listing_id IN ?")
STOCKS = Statement("SELECT * FROM {keyspace}.stock_level")
ADD_STOCK = _insert("{keyspace}.stock_level", "listing_id inventory etag", "IF NOT EXISTS")
SET_STOCK = _cas(
    "UPDATE {keyspace}.stock_level SET inventory = ?, etag = ? WHERE listing_id = ? IF etag = ?"
)
DELETE_STOCK = _cas("DELETE FROM {keyspace}.stock_level WHERE listing_id = ? IF EXISTS")

# Snapshots and what is live
PUT_SNAPSHOT = _insert(
    "{keyspace}.snapshots",
    "snapshot_id model_id rows listings dim shards watermark created_at code_version fingerprint",
)
SNAPSHOT = Statement("SELECT * FROM {keyspace}.snapshots WHERE snapshot_id = ?")
SNAPSHOTS = Statement("SELECT * FROM {keyspace}.snapshots")
DELETE_SNAPSHOT = Statement("DELETE FROM {keyspace}.snapshots WHERE snapshot_id = ?")
PUT_SHARD = _insert(
    "{keyspace}.shards", "snapshot_id shard rows listings first_listing last_listing files"
)
SHARDS = Statement("SELECT * FROM {keyspace}.shards WHERE snapshot_id = ?")
DELETE_SHARDS = Statement("DELETE FROM {keyspace}.shards WHERE snapshot_id = ?")
LIVE = Statement("SELECT version FROM {keyspace}.live WHERE name = ?")
LIVES = Statement("SELECT name, version FROM {keyspace}.live")
FIRST_LIVE = _insert("{keyspace}.live", "name version moved_at", "IF NOT EXISTS")
MOVE_LIVE = _cas(
    "UPDATE {keyspace}.live SET version = ?, moved_at = ? WHERE name = ? IF version = ?"
)
DROP_LIVE = _cas("DELETE FROM {keyspace}.live WHERE name = ? IF version = ?")

# Maps
PUT_MAP = _insert(
    "{keyspace}.maps",
    "map_id model_id snapshot_id rows rows_scored clusters noise seed parameters quality "
    "code_version created_at watermark",
)
MAP = Statement("SELECT * FROM {keyspace}.maps WHERE map_id = ?")
MAPS = Statement("SELECT * FROM {keyspace}.maps")
DELETE_MAP = Statement("DELETE FROM {keyspace}.maps WHERE map_id = ?")
PUT_POINT = _insert(
    "{keyspace}.map_points",
    "map_id bucket image_id listing_id x y cluster membership outlier_score knn_distance glosh "
    "trust soft_clusters soft_shares space",
)
POINTS = Statement("SELECT * FROM {keyspace}.map_points WHERE map_id = ? AND bucket = ?")
DELETE_POINTS = Statement("DELETE FROM {keyspace}.map_points WHERE map_id = ? AND bucket = ?")
PLACED_BATCH_COLUMNS = "map_id number batch_id first rows read_to placed_at"
ADD_PLACED_BATCH = _insert("{keyspace}.placed_batches", PLACED_BATCH_COLUMNS, "IF NOT EXISTS")
PLACED_BATCH = Statement("SELECT * FROM {keyspace}.placed_batches WHERE map_id = ? AND number = ?")
PLACED_BATCHES = Statement(
    "SELECT * FROM {keyspace}.placed_batches WHERE map_id = ? AND number > ?"
)
DELETE_PLACED_BATCHES = Statement("DELETE FROM {keyspace}.placed_batches WHERE map_id = ?")
PLACED_POINT_COLUMNS = (
    "map_id batch_id image_id listing_id x y cluster membership outlier_score knn_distance glosh "
    "soft_clusters soft_shares space"
)
PUT_PLACED_POINT = _insert("{keyspace}.placed_points", PLACED_POINT_COLUMNS)
PLACED_POINTS = Statement(
    "SELECT * FROM {keyspace}.placed_points WHERE map_id = ? AND batch_id = ?"
)
DELETE_PLACED_POINTS = Statement(
    "DELETE FROM {keyspace}.placed_points WHERE map_id = ? AND batch_id = ?"
)
PUT_CLUSTER = _insert(
    "{keyspace}.clusters", "map_id cluster cluster_key size listings name exemplars x y family"
)
CLUSTERS = Statement("SELECT * FROM {keyspace}.clusters WHERE map_id = ?")
DELETE_CLUSTERS = Statement("DELETE FROM {keyspace}.clusters WHERE map_id = ?")
PUT_GROUP = _insert(
    "{keyspace}.cluster_groups",
    "map_id level number group_key size listings clusters name parent",
)
GROUPS = Statement("SELECT * FROM {keyspace}.cluster_groups WHERE map_id = ?")
DELETE_GROUPS = Statement("DELETE FROM {keyspace}.cluster_groups WHERE map_id = ?")
PUT_OUTLIER = _insert(
    "{keyspace}.outliers",
    "map_id bucket score image_id listing_id knn_distance glosh cluster reason kind lof evidence",
)
OUTLIERS = Statement("SELECT * FROM {keyspace}.outliers WHERE map_id = ? AND bucket = ?")
DELETE_OUTLIERS = Statement("DELETE FROM {keyspace}.outliers WHERE map_id = ? AND bucket = ?")

# Near-duplicates
DUPLICATE_RUN_COLUMNS = "map_id rows measured candidates groups images threshold basis curve"
PUT_DUPLICATE_RUN = _insert("{keyspace}.duplicate_runs", DUPLICATE_RUN_COLUMNS)
DUPLICATE_RUN = Statement("SELECT * FROM {keyspace}.duplicate_runs WHERE map_id = ?")
DELETE_DUPLICATE_RUN = Statement("DELETE FROM {keyspace}.duplicate_runs WHERE map_id = ?")
DUPLICATE_GROUP_COLUMNS = "map_id bucket number group_key digest size listings least first images"
PUT_DUPLICATE_GROUP = _insert("{keyspace}.duplicate_groups", DUPLICATE_GROUP_COLUMNS)
DUPLICATE_GROUPS = Statement(
    "SELECT * FROM {keyspace}.duplicate_groups WHERE map_id = ? AND bucket = ?"
)
DELETE_DUPLICATE_GROUPS = Statement(
    "DELETE FROM {keyspace}.duplicate_groups WHERE map_id = ? AND bucket = ?"
)
DUPLICATE_MEMBER_COLUMNS = "map_id bucket number place image_id listing_id tied alike bits cosine"
PUT_DUPLICATE_MEMBER = _insert("{keyspace}.duplicate_members", DUPLICATE_MEMBER_COLUMNS)
DUPLICATE_MEMBERS = Statement(
    "SELECT * FROM {keyspace}.duplicate_members WHERE map_id = ? AND bucket = ?"
)
DUPLICATE_MEMBERS_OF = Statement(
    "SELECT * FROM {keyspace}.duplicate_members WHERE map_id = ? AND bucket = ? AND number = ? "
    "AND place >= ? LIMIT ?"
)
DELETE_DUPLICATE_MEMBERS = Statement(
    "DELETE FROM {keyspace}.duplicate_members WHERE map_id = ? AND bucket = ?"
)

# Comparisons of maps
PUT_MEAN = _insert("{keyspace}.cluster_means", "map_id cluster mean")
MEANS = Statement("SELECT cluster, mean FROM {keyspace}.cluster_means WHERE map_id = ?")
DELETE_MEANS = Statement("DELETE FROM {keyspace}.cluster_means WHERE map_id = ?")
PUT_COMPARISON = _insert(
    "{keyspace}.comparisons",
    "map_id previous rows_before rows_after added removed outliers seed created_at",
)
COMPARISONS = Statement("SELECT * FROM {keyspace}.comparisons WHERE map_id = ?")
DELETE_COMPARISONS = Statement("DELETE FROM {keyspace}.comparisons WHERE map_id = ?")
PUT_CLUSTER_CHANGE = _insert(
    "{keyspace}.cluster_changes",
    "map_id previous number kind cluster_key name before after joined added departed removed parts "
    "exemplars shift energy p q",
)
CLUSTER_CHANGES = Statement(
    "SELECT * FROM {keyspace}.cluster_changes WHERE map_id = ? AND previous = ?"
)
DELETE_CLUSTER_CHANGES = Statement(
    "DELETE FROM {keyspace}.cluster_changes WHERE map_id = ? AND previous = ?"
)
PUT_NEW_OUTLIER = _insert(
    "{keyspace}.new_outliers", "map_id previous rank image_id listing_id score score_before"
)
NEW_OUTLIERS = Statement(
    "SELECT * FROM {keyspace}.new_outliers WHERE map_id = ? AND previous = ? LIMIT ?"
)
DELETE_NEW_OUTLIERS = Statement(
    "DELETE FROM {keyspace}.new_outliers WHERE map_id = ? AND previous = ?"
)

# Decisions
DECISION_COLUMNS = "subject version kind value author reason at batch_id"
ADD_DECISION = _insert("{keyspace}.decisions", DECISION_COLUMNS, "IF NOT EXISTS")
DECISIONS = Statement("SELECT * FROM {keyspace}.decisions WHERE subject = ?")
DECISION = Statement("SELECT * FROM {keyspace}.decisions WHERE subject = ? AND version = ?")
NEWEST_DECISION = Statement("SELECT * FROM {keyspace}.decisions WHERE subject = ? LIMIT 1")
ALL_DECISIONS = Statement("SELECT * FROM {keyspace}.decisions")
STANDING = Statement("SELECT * FROM {keyspace}.decisions PER PARTITION LIMIT 1")
PUT_ACT = _insert("{keyspace}.decisions_by_month", "month at subject version kind batch_id")
ACTS_BEFORE = Statement("SELECT * FROM {keyspace}.decisions_by_month WHERE month = ? AND at < ?")
ACTS_SINCE = Statement("SELECT * FROM {keyspace}.decisions_by_month WHERE month = ? AND at >= ?")
PUT_BATCHED = _insert("{keyspace}.decisions_by_batch", "batch_id subject version")
BATCHED = Statement("SELECT subject, version FROM {keyspace}.decisions_by_batch WHERE batch_id = ?")

# What was learned from labels and clicks
CLASSIFIER_COLUMNS = (
    "classifier_id model_id snapshot_id classes counts weights norms biases dim penalty "
    "temperature seed labels label_version measures created_at"
)
PUT_CLASSIFIER = _insert("{keyspace}.classifiers", CLASSIFIER_COLUMNS)
CLASSIFIER = Statement("SELECT * FROM {keyspace}.classifiers WHERE classifier_id = ?")
CONCEPT_COLUMNS = (
    "name version model_id snapshot_id positives negatives weights norm bias dim threshold "
    "precision recall sampled seed author created_at"
)
ADD_CONCEPT = _insert("{keyspace}.concepts", CONCEPT_COLUMNS, "IF NOT EXISTS")
CONCEPT = Statement("SELECT * FROM {keyspace}.concepts WHERE name = ? LIMIT 1")
CONCEPT_VERSIONS = Statement("SELECT * FROM {keyspace}.concepts WHERE name = ?")
CONCEPT_VERSION = Statement("SELECT * FROM {keyspace}.concepts WHERE name = ? AND version = ?")
CONCEPTS = Statement("SELECT * FROM {keyspace}.concepts PER PARTITION LIMIT 1")
SUGGESTION_COLUMNS = "image_id listing_id name version margin at"
PUT_SUGGESTION = _insert("{keyspace}.suggestions", SUGGESTION_COLUMNS)
SUGGESTION = Statement("SELECT * FROM {keyspace}.suggestions WHERE image_id = ? AND name = ?")
SUGGESTIONS = Statement("SELECT * FROM {keyspace}.suggestions WHERE image_id = ?")
DELETE_SUGGESTIONS = Statement("DELETE FROM {keyspace}.suggestions WHERE image_id = ?")
PUT_SUGGESTION_DAY = _insert(
    "{keyspace}.suggestions_by_concept", "name day at image_id version listing_id margin"
)
DELETE_SUGGESTION_DAY = Statement(
    "DELETE FROM {keyspace}.suggestions_by_concept "
    "WHERE name = ? AND day = ? AND at = ? AND image_id = ?"
)
SUGGESTIONS_OF_DAY = Statement(
    "SELECT * FROM {keyspace}.suggestions_by_concept WHERE name = ? AND day = ?"
)
PUT_PROGRESS = _insert("{keyspace}.concept_progress", "name version read_to")
PROGRESS = Statement(
    "SELECT read_to FROM {keyspace}.concept_progress WHERE name = ? AND version = ?"
)

PREDICTION_BATCH_COLUMNS = "classifier_id number batch_id rows read_to"
ADD_PREDICTION_BATCH = _insert(
    "{keyspace}.prediction_batches", PREDICTION_BATCH_COLUMNS, "IF NOT EXISTS"
)
PREDICTION_BATCH = Statement(
    "SELECT * FROM {keyspace}.prediction_batches WHERE classifier_id = ? AND number = ?"
)
PREDICTION_BATCHES = Statement(
    "SELECT * FROM {keyspace}.prediction_batches WHERE classifier_id = ? AND number > ?"
)
DELETE_PREDICTION_BATCHES = Statement(
    "DELETE FROM {keyspace}.prediction_batches WHERE classifier_id = ?"
)
PUT_PREDICTIONS = _insert("{keyspace}.predictions", "batch_id part images classes sureties crc32c")
PREDICTIONS = Statement("SELECT * FROM {keyspace}.predictions WHERE batch_id = ? AND part = ?")
DELETE_PREDICTIONS = Statement("DELETE FROM {keyspace}.predictions WHERE batch_id = ? AND part = ?")

# Jobs: written by compare-and-set alone.
ADD_JOB = _insert(
    "{keyspace}.jobs",
    "job_id kind parameters state step done total rate message error owner created_at started_at "
    "heartbeat_at finished_at",
    "IF NOT EXISTS",
)
JOB = Statement("SELECT * FROM {keyspace}.jobs WHERE job_id = ?")
PUT_JOB_DAY = _insert("{keyspace}.jobs_by_day", "day created_at job_id")
JOBS_OF_DAY = Statement("SELECT job_id FROM {keyspace}.jobs_by_day WHERE day = ? LIMIT ?")
CLAIM_JOB = _cas(
    "UPDATE {keyspace}.jobs SET state = 'running', owner = ?, started_at = ?, heartbeat_at = ? "
    "WHERE job_id = ? IF state = 'queued'"
)
TAKE_OVER_JOB = _cas(
    "UPDATE {keyspace}.jobs SET owner = ?, started_at = ?, heartbeat_at = ? "
    "WHERE job_id = ? IF state = 'running' AND owner = ? AND heartbeat_at = ?"
)
UPDATE_JOB = _cas(
    "UPDATE {keyspace}.jobs SET step = ?, done = ?, total = ?, rate = ?, message = ?, steps = ?, "
    "worked_s = ?, cpu_s = ?, peak_bytes = ?, left_s = ?, heartbeat_at = ? "
    "WHERE job_id = ? IF state = 'running' AND owner = ?"
)
FINISH_JOB = _cas(
    "UPDATE {keyspace}.jobs SET state = ?, error = ?, finished_at = ? "
    "WHERE job_id = ? IF state = 'running' AND owner = ?"
)
CANCEL_JOB = _cas(
    "UPDATE {keyspace}.jobs SET state = 'cancelled', finished_at = ? "
    "WHERE job_id = ? IF state IN ('queued', 'running')"
)

# Processes
HEARTBEAT = _insert(
    "{keyspace}.services",
    "role service_id address snapshot_id shards pid seen_at",
    "USING TTL ?",
)
SERVICES = Statement("SELECT * FROM {keyspace}.services WHERE role = ?")
WITHDRAW = Statement("DELETE FROM {keyspace}.services WHERE role = ? AND service_id = ?")

# Results
PUT_QUERY = _insert(
    "{results}.queries",
    "query_id spec name model_id snapshot_id state attempt hits rows rows_scanned seconds "
    "created_at",
)
PUT_QUERY_DAY = _insert("{results}.queries_by_day", "day created_at query_id name")
QUERY = Statement("SELECT * FROM {results}.queries WHERE query_id = ?")
# A name leaves with its row: a cell that outlives the others would show a row of nulls.
QUERY_TTL = Statement("SELECT TTL(spec) AS ttl FROM {results}.queries WHERE query_id = ?")
NAME_QUERY = Statement("UPDATE {results}.queries USING TTL ? SET name = ? WHERE query_id = ?")
NAME_QUERY_DAY = Statement(
    "UPDATE {results}.queries_by_day USING TTL ? SET name = ? "
    "WHERE day = ? AND created_at = ? AND query_id = ?"
)
QUERIES_OF_DAY = Statement("SELECT query_id FROM {results}.queries_by_day WHERE day = ? LIMIT ?")
HIT_COLUMNS = "query_id attempt score listing_id image_id"
PUT_HIT = _insert("{results}.query_results", HIT_COLUMNS)
PUT_STOCKED_HIT = _insert("{results}.query_results", f"{HIT_COLUMNS} inventory stock_read_at")
HITS = Statement(
    "SELECT score, listing_id, image_id, inventory, stock_read_at FROM {results}.query_results "
    "WHERE query_id = ? AND attempt = ? LIMIT ?"
)
HIT_NAMES = Statement(
    "SELECT listing_id FROM {results}.query_results WHERE query_id = ? AND attempt = ? LIMIT ?"
)
HIT_COUNT = Statement(
    "SELECT count(*) AS hits FROM {results}.query_results WHERE query_id = ? AND attempt = ?"
)
# Scores descend and listings ascend, which one tuple comparison cannot say.
HITS_TIED = Statement(
    "SELECT score, listing_id, image_id, inventory, stock_read_at FROM {results}.query_results "
    "WHERE query_id = ? AND attempt = ? AND score = ? AND listing_id > ? LIMIT ?"
)
HITS_BELOW = Statement(
    "SELECT score, listing_id, image_id, inventory, stock_read_at FROM {results}.query_results "
    "WHERE query_id = ? AND attempt = ? AND score < ? LIMIT ?"
)
